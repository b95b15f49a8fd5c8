# cmake -DOUT=FILE -DFILES="name=path;…" -P embed.cmake: the table web_files[] of the console's files, and web_version, which is made of
# all that is in them. The page names the version where it says CONSOLE_VERSION. The assembler takes the files in as they are.
set(all "")
foreach(pair ${FILES})
  string(REGEX REPLACE "=.*" "" name ${pair})
  string(REGEX REPLACE "^[^=]*=" "" path ${pair})
  file(SHA256 ${path} sum)
  string(APPEND all "${name} ${sum}\n")
endforeach()
string(SHA256 version "${all}")
string(SUBSTRING ${version} 0 16 version)

set(blobs "")
set(rows "")
set(n 0)
foreach(pair ${FILES})
  string(REGEX REPLACE "=.*" "" name ${pair})
  string(REGEX REPLACE "^[^=]*=" "" path ${pair})
  if(name STREQUAL "index.html")
    file(READ ${path} page)
    string(REPLACE "CONSOLE_VERSION" "${version}" page "${page}")
    set(path "${OUT}.html")
    file(WRITE ${path} "${page}")
  endif()
  file(SHA256 ${path} sum)
  string(SUBSTRING ${sum} 0 24 sum)
  string(APPEND blobs "__asm__(\".section .rodata\\n\" \".balign 16\\n\" \"web_blob_${n}:\\n\" \".incbin \\\"${path}\\\"\\n\"\n"
    "        \"web_blob_${n}_end:\\n\" \".byte 0\\n\" \".previous\\n\");\n"
    "extern const char web_blob_${n}[], web_blob_${n}_end[];\n")
  string(APPEND rows "    {\"${name}\", web_blob_${n}, web_blob_${n}_end, \"\\\"${sum}\\\"\"},\n")
  math(EXPR n "${n} + 1")
endforeach()
file(WRITE ${OUT} "#include \"runner/web/web.h\"\n\n${blobs}\nconst struct web_file web_files[] = {\n${rows}};\n"
  "const size_t web_file_count = ${n};\nconst char web_version[] = \"${version}\";\n")
