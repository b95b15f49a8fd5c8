# cmake -DOUT=FILE -DFILES="name=path;…" -P embed.cmake: the table web_files[] of the console's files. The assembler takes
# them in as they are.
set(blobs "")
set(rows "")
set(n 0)
foreach(pair ${FILES})
  string(REGEX REPLACE "=.*" "" name ${pair})
  string(REGEX REPLACE "^[^=]*=" "" path ${pair})
  file(SHA256 ${path} sum)
  string(SUBSTRING ${sum} 0 24 sum)
  string(APPEND blobs "__asm__(\".section .rodata\\n\" \".balign 16\\n\" \"web_blob_${n}:\\n\" \".incbin \\\"${path}\\\"\\n\"\n"
    "        \"web_blob_${n}_end:\\n\" \".byte 0\\n\" \".previous\\n\");\n"
    "extern const char web_blob_${n}[], web_blob_${n}_end[];\n")
  string(APPEND rows "    {\"${name}\", web_blob_${n}, web_blob_${n}_end, \"\\\"${sum}\\\"\"},\n")
  math(EXPR n "${n} + 1")
endforeach()
file(WRITE ${OUT} "#include \"runner/web/web.h\"\n\n${blobs}\nconst struct web_file web_files[] = {\n${rows}};\nconst size_t web_file_count = ${n};\n")
