#include "runner/client/phone_link.h"

#include "base/form.h"
#include "qr/qr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool phone_link_leads_here(const char *address)
{
    struct form_url url;
    return form_url(address, &url) == 0 && !url.loopback;
}

static int print_code(const char *text, struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT(1u << 20);
    AUTO(str) char *memory = malloc(sizeof(struct qr));
    struct qr *qr = (struct qr *)(void *)memory;
    if (!qr)
        return err_sys(err, "QR code");
    if (qr_encode(text, qr, err))
        return -1;
    qr_draw(qr, &out);
    fputs(buf_str(&out), stdout);
    return 0;
}

int phone_link_print(const struct settings *to, const char *address, struct err *err)
{
    struct form_url parsed;
    AUTO(buf_wipe) struct buf link = BUF_INIT(8192);
    if (address && (form_url(address, &parsed) || parsed.has_user))
        return err_set(err, ERR_INVALID, "--public must be an http or https URL");
    AUTO(json) struct json *answer = client_call(to, "POST", "/console/links", NULL, err);
    const char *path = answer ? json_text(json_get(answer, "path")) : NULL;
    if (!answer)
        return -1;
    if (!path || strncmp(path, "/#/", 3) != 0)
        return err_set(err, ERR_UPSTREAM, "that is no runner of this version");
    size_t len = strlen(address ? address : to->url);
    while (len > 0 && (address ? address : to->url)[len - 1] == '/')
        len--;
    buf_addf(&link, "%.*s%s", (int)len, address ? address : to->url, path);
    if (buf_check(&link, "the link", err))
        return -1;
    puts("Open this on the phone. It signs the first browser that opens it in at the console, "
         "within "
         "five minutes:\n");
    if (isatty(STDOUT_FILENO) && print_code(buf_str(&link), err))
        return -1;
    printf("%s%s\n\n", isatty(STDOUT_FILENO) ? "\n" : "", buf_str(&link));
    fflush(stdout);
    return 0;
}
