# C source without comments and without what stands in string and character literals; line numbers stay.
BEGIN { state = "code" }
{
    out = ""
    for (i = 1; i <= length($0); i++) {
        c = substr($0, i, 1)
        two = substr($0, i, 2)
        if (state == "comment") {
            if (two == "*/") { state = "code"; i++ }
        } else if (state == "code") {
            if (two == "/*") { state = "comment"; i++; out = out " " }
            else if (two == "//") break
            else { out = out c; if (c == "\"" || c == "'") state = c }
        } else if (c == "\\") i++
        else if (c == state) { out = out c; state = "code" }
    }
    if (state != "comment") state = "code"
    print out
}
