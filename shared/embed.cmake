# cmake -DOUT=FILE -DFILES="a;b" -DHEADER=H -DPREFIX=P -P embed.cmake: writes the files as C arrays, P_NAME_EXT, each
# ending with a NUL. H declares them.
set(text "#include \"${HEADER}\"\n")
foreach(file ${FILES})
  get_filename_component(name ${file} NAME)
  string(REGEX REPLACE "[^a-z]" "_" name ${name})
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
  string(REGEX REPLACE "('[^,]*,'[^,]*,'[^,]*,'[^,]*,'[^,]*,'[^,]*,'[^,]*,'[^,]*,)" "\\1\n" bytes "${bytes}")
  string(APPEND text "\nconst char ${PREFIX}_${name}[] = {\n${bytes}'\\0'};\n")
endforeach()
file(WRITE ${OUT} "${text}")
