# Builds for arm64 on another architecture, with Debian's cross compiler and that architecture's libraries
# (runner/cross-packages installs both): cmake --toolchain runner/arm64.cmake
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

# The libraries of the machine that builds are in folders of their own: no search finds them, and neither does pkg-config.
execute_process(COMMAND gcc -print-multiarch OUTPUT_VARIABLE native OUTPUT_STRIP_TRAILING_WHITESPACE)
set(CMAKE_IGNORE_PATH /usr/lib/${native} /lib/${native} /usr/include/${native})
set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig)
