#include "testing.h"

#include <stdlib.h>
#include <string.h>

char *asked_member(const struct api *api, const char *mark, const char *member)
{
    cJSON *log = api_log(api, mark);
    int count = cJSON_GetArraySize(log);
    if (count == 0)
        fail_msg("no request with '%s' has reached the model", mark);
    cJSON *body = cJSON_Parse(json_text(cJSON_GetArrayItem(log, count - 1), "body"));
    const cJSON *at = json_at(body, member);
    char *text = at ? cJSON_PrintUnformatted(at) : strdup("");
    cJSON_Delete(body);
    cJSON_Delete(log);
    return text;
}

int asked_times(const struct api *api, const char *mark)
{
    cJSON *log = api_log(api, mark);
    int count = cJSON_GetArraySize(log);
    cJSON_Delete(log);
    return count;
}

static void check(const struct api *api, const char *mark, const char *member, const char *text,
                  bool there)
{
    char *is = asked_member(api, mark, member);
    if (!strstr(is, text) == there)
        fail_msg("'%s' is %sin '%s' of '%s': %.2000s", text, there ? "not " : "", member, mark, is);
    free(is);
}

void assert_asked(const struct api *api, const char *mark, const char *member, const char *text)
{
    check(api, mark, member, text, true);
}

void assert_not_asked(const struct api *api, const char *mark, const char *member, const char *text)
{
    check(api, mark, member, text, false);
}
