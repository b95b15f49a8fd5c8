# How every target of this project is compiled, and how a floor's folder becomes a library.

add_library(cr_flags INTERFACE)
target_compile_definitions(cr_flags INTERFACE _GNU_SOURCE)
target_compile_options(cr_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes
  -Wmissing-prototypes -Wcast-qual -Wvla -Wformat=2 -Wswitch-enum -fno-common
  $<$<C_COMPILER_ID:Clang>:-Wthread-safety> # who holds which lock: base/lock.h
  $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation>) # what snprintf cuts is cut on purpose
target_include_directories(cr_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/shared)
target_link_libraries(cr_flags INTERFACE Threads::Threads)

if(CR_WERROR)
  target_compile_options(cr_flags INTERFACE -Werror)
endif()
if(CR_ANALYZER)
  # gcc 12 takes what is stored into an array it cannot follow for lost: such leaks are warnings only.
  target_compile_options(cr_flags INTERFACE -fanalyzer -Wno-error=analyzer-malloc-leak)
endif()
if(CR_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "CR_FUZZ needs clang: -DCMAKE_C_COMPILER=clang")
  endif()
  target_compile_options(cr_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

if(CR_SANITIZE STREQUAL "address")
  set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all)
elseif(CR_SANITIZE STREQUAL "thread")
  set(sanitizers -fsanitize=thread)
elseif(CR_SANITIZE)
  message(FATAL_ERROR "CR_SANITIZE must be empty, 'address' or 'thread', got '${CR_SANITIZE}'")
endif()

if(sanitizers)
  # What is read before it is written is never 0 by chance.
  target_compile_options(cr_flags INTERFACE ${sanitizers} -fno-omit-frame-pointer -g
                                            -ftrivial-auto-var-init=pattern)
  target_link_options(cr_flags INTERFACE ${sanitizers})
else()
  target_compile_options(cr_flags INTERFACE
    $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2>
    -fstack-protector-strong -fstack-clash-protection
    $<$<STREQUAL:${CMAKE_SYSTEM_PROCESSOR},x86_64>:-fcf-protection>
    $<$<STREQUAL:${CMAKE_SYSTEM_PROCESSOR},aarch64>:-mbranch-protection=standard>)
  target_link_options(cr_flags INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
endif()
target_link_options(cr_flags INTERFACE $<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:-pie>)

# cr_library(NAME SOURCES a.c … DEPS lower-libraries … FOREIGN system-libraries …)
# DEPS are part of the contract (headers may show their types), FOREIGN stays behind the adapter.
function(cr_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS;FOREIGN" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC cr_flags ${arg_DEPS} PRIVATE ${arg_FOREIGN})
endfunction()
