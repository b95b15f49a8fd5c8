/* Repository URLs, policy and keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/auto.h"
#include "git/key.h"
#include "git/remote.h"
#include "git/url.h"

#include <string.h>

static const struct {
    const char *text, *printed, *canonical;
} good[] = {
    {"octo/repo", "https://github.com/octo/repo", "github.com/octo/repo"},
    {"https://github.com/octo/repo.git", "https://github.com/octo/repo.git",
     "github.com/octo/repo"},
    {"https://GitHub.com/octo/repo/", "https://github.com/octo/repo", "github.com/octo/repo"},
    {"https://user:pass@github.com/octo/repo", "https://github.com/octo/repo",
     "github.com/octo/repo"},
    {"https://ghp_token@github.com:443/octo/repo", "https://github.com/octo/repo",
     "github.com/octo/repo"},
    {"git@github.com:octo/repo.git", "git@github.com:octo/repo.git", "github.com/octo/repo"},
    {"ssh://git@github.com/octo/repo", "ssh://git@github.com/octo/repo", "github.com/octo/repo"},
    {"https://git.example.org:8443/a/b.git", "https://git.example.org:8443/a/b.git",
     "https://git.example.org:8443/a/b.git"},
    {"ssh://me@git.example.org:2222/a/b", "ssh://me@git.example.org:2222/a/b",
     "ssh://me@git.example.org:2222/a/b"},
    {"me@git.example.org:a/b", "me@git.example.org:a/b", "me@git.example.org:a/b"},
    {"git.example.org:/srv/b", "ssh://git@git.example.org/srv/b",
     "ssh://git@git.example.org/srv/b"},
    {"https://[2001:db8::1]:8443/a", "https://[2001:db8::1]:8443/a",
     "https://[2001:db8::1]:8443/a"},
    {"file:///srv/git/a.git", "file:///srv/git/a.git", "file:///srv/git/a.git"},
};

static void understands_every_way_of_writing_a_repository(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct git_url url;
        struct err err = ERR_INIT;
        AUTO(buf) struct buf printed = BUF_INIT(4096);
        AUTO(buf) struct buf canonical = BUF_INIT(4096);
        if (git_url_parse(good[i].text, &url, &err))
            fail_msg("%s: %s", good[i].text, err.msg);
        git_url_print(&url, &printed);
        git_url_canonical(&url, &canonical);
        assert_string_equal(buf_str(&printed), good[i].printed);
        assert_string_equal(buf_str(&canonical), good[i].canonical);
    }
}

static void refuses_what_is_more_than_a_name(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "-oProxyCommand=x",
        "--upload-pack=touch /tmp/x",
        "ssh://-oProxyCommand=x/a",
        "ssh://git@-oProxyCommand=x/a",
        "-x@host.org:a",
        "git@host.org:-oX",
        "https://host.org/-x",
        "ext::sh -c x",
        "ext::sh",
        "fd::17",
        "git://host.org/a",
        "ftp://host.org/a",
        "/etc/passwd",
        "../up",
        "a/b/c",
        "justaname",
        "https://",
        "https://host.org",
        "https://host.org/",
        "https://host.org:99999/a",
        "https://host.org:x/a",
        "https:///a",
        "https://host.org/a b",
        "https://host.org/a\nb",
        "https://host.org/../a",
        "https://host.org/a/../../b",
        "https://host.org/a?b=c",
        "https://host.org/a#b",
        "https://ho_st$.org/a",
        "https://[::1/a",
        "file://host/a",
        "file:///a/../b",
        "git@host.org:a;touch x",
        "git@host.org:a`x`",
        "git@host.org:$(x)",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct git_url url;
        struct err err = ERR_INIT;
        if (git_url_parse(bad[i], &url, &err) == 0)
            fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void no_part_of_a_secret_survives_parsing(void **state)
{
    (void)state;
    struct git_url url;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf printed = BUF_INIT(4096);
    assert_int_equal(git_url_parse("https://bob:hunter2@github.com/o/r", &url, &err), 0);
    git_url_print(&url, &printed);
    git_url_canonical(&url, &printed);
    assert_null(strstr(buf_str(&printed), "hunter2"));
    assert_null(strstr(buf_str(&printed), "bob"));
    assert_string_equal(url.user, "");
}

static void private_places_need_permission(void **state)
{
    (void)state;
    static const struct {
        const char *url, *allow;
        bool ok;
    } cases[] = {
        {"https://github.com/o/r", "", true},
        {"https://localhost/o/r", "", false},
        {"https://localhost/o/r", "localhost", true},
        {"https://localhost:8443/o/r", "localhost:8443", true},
        {"https://localhost:8444/o/r", "localhost:8443", false},
        {"https://127.0.0.1/o/r", "", false},
        {"https://169.254.169.254/o/r", "", false},
        {"https://10.0.0.1/o/r", "", false},
        {"https://[::1]/o/r", "", false},
        {"https://[::ffff:127.0.0.1]/o/r", "", false},
        {"https://git.home.lan/o/r", "", false},
        {"https://git.home.lan/o/r", "*.home.lan", true},
        {"https://home.lan/o/r", "*.home.lan", false},
        {"ssh://git@nas/o/r", "", false},
        {"http://example.org/o/r", "", false},
        {"http://example.org/o/r", "example.org", true},
        {"file:///tmp", "", false},
        {"file:///tmp", "file:/tmp", true},
        {"file:///etc", "file:/tmp", false},
        {"file:///tmp", "file:/tm", false},
        {"file:///proc/self/cwd", "file:/proc", false},
        {"file:///proc/self/cwd/not/there", "file:/proc", false},
        {"file:///tmp/not/there", "file:/tmp", true},
        {"file:///not/there", "file:/tmp", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct git_url url;
        struct err err = ERR_INIT;
        AUTO(strlist) struct strlist allow = STRLIST_INIT;
        strlist_split(&allow, cases[i].allow);
        assert_int_equal(git_url_parse(cases[i].url, &url, &err), 0);
        if ((git_url_check(&url, &allow, &err) == 0) != cases[i].ok)
            fail_msg("%s with '%s'", cases[i].url, cases[i].allow);
    }
}

static void a_key_makes_it_ssh_and_back(void **state)
{
    (void)state;
    struct git_url url;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf text = BUF_INIT(4096);
    assert_int_equal(git_url_parse("https://github.com/o/r.git", &url, &err), 0);
    git_url_use_ssh(&url);
    git_url_print(&url, &text);
    assert_string_equal(buf_str(&text), "ssh://git@github.com/o/r.git");
    buf_clear(&text);
    assert_int_equal(git_url_parse("git@github.com:o/r.git", &url, &err), 0);
    git_url_use_https(&url);
    git_url_print(&url, &text);
    assert_string_equal(buf_str(&text), "https://github.com/o/r.git");
}

static void keys_with_a_passphrase_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const char *const locked[] = {
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0"
        "\n-----END OPENSSH PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nx\n-----END RSA PRIVATE "
        "KEY-----",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nx\n-----END ENCRYPTED PRIVATE KEY-----",
    };
    for (size_t i = 0; i < COUNT_OF(locked); i++) {
        struct err err = ERR_INIT;
        AUTO(buf) struct buf out = BUF_INIT(4096);
        assert_int_equal(key_normalize(locked[i], &out, &err), -1);
        assert_non_null(strstr(err.msg, "passphrase"));
    }
}

static void keys_get_the_line_ends_that_ssh_wants(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf out = BUF_INIT(4096);
    assert_int_equal(key_normalize("\r\n-----BEGIN RSA PRIVATE KEY-----\r\nabc\r\n"
                                   "-----END RSA PRIVATE KEY-----  ",
                                   &out, &err),
                     0);
    assert_string_equal(buf_str(&out), "-----BEGIN RSA PRIVATE KEY-----\nabc\n"
                                       "-----END RSA PRIVATE KEY-----\n");
    assert_int_equal(key_normalize("nonsense", &out, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(understands_every_way_of_writing_a_repository),
        cmocka_unit_test(refuses_what_is_more_than_a_name),
        cmocka_unit_test(no_part_of_a_secret_survives_parsing),
        cmocka_unit_test(private_places_need_permission),
        cmocka_unit_test(a_key_makes_it_ssh_and_back),
        cmocka_unit_test(keys_with_a_passphrase_are_refused_with_a_reason),
        cmocka_unit_test(keys_get_the_line_ends_that_ssh_wants),
    };
    return cmocka_run_group_tests_name("giturl", tests, NULL, NULL);
}
