#include "git/key.h"

#include "base/str.h"

#include <string.h>

#define OPENSSH_BEGIN "-----BEGIN OPENSSH PRIVATE KEY-----"

/* The first bytes of the base64 after the marker: "openssh-key-v1\0", then the cipher's name. The
 * encoding of "none" there is always the same. */
static bool is_encrypted_openssh(const char *key)
{
    static const char plain[] = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUA";
    char head[sizeof(plain)] = "";
    size_t n = 0;
    const char *at = strstr(key, OPENSSH_BEGIN);
    if (!at)
        return false;
    for (at += strlen(OPENSSH_BEGIN); *at && n < sizeof(head) - 1; at++)
        if (!strchr("\r\n \t", *at))
            head[n++] = *at;
    return strncmp(head, plain, sizeof(plain) - 1) != 0;
}

int key_normalize(const char *key, struct buf *out, struct err *err)
{
    key += strspn(key, " \t\r\n");
    if (!str_starts(key, "-----BEGIN ") || !strstr(key, "PRIVATE KEY-----") ||
        !strstr(key, "-----END "))
        return err_set(err, ERR_INVALID, "the ssh key is no private key in OpenSSH or PEM form");
    if (strstr(key, "Proc-Type: 4,ENCRYPTED") || strstr(key, "BEGIN ENCRYPTED PRIVATE KEY") ||
        is_encrypted_openssh(key))
        return err_set(err, ERR_INVALID,
                       "the ssh key has a passphrase; give one without "
                       "(ssh-keygen -p removes it)");
    for (; *key; key++)
        if (*key != '\r')
            buf_addc(out, *key);
    while (out->len > 0 && strchr(" \t\n", out->data[out->len - 1]))
        out->data[--out->len] = '\0';
    buf_addc(out, '\n');
    return buf_check(out, "the ssh key", err);
}
