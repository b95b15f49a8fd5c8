#include "keeper_scene.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

/* --- the lock ------------------------------------------------------------------------------ */

static _Atomic int refused; /* attempts to make a directory that exists: waits for the lock */

int mkdir(const char *path, mode_t mode)
{
    int rc = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    refused += rc != 0 && errno == EEXIST;
    return rc;
}

static void await_waiting(void)
{
    int before = refused;
    await(20000, refused > before);
}

static _Atomic bool go; /* the server goes on */

static void await_go(void *arg)
{
    (void)arg;
    await(60000, go);
}

static void *refresh_thread(void *arg)
{
    struct caller *caller = arg;
    caller->rc = keeper_refresh(caller->world->keeper, &caller->err);
    return NULL;
}

static void begin_refresh(struct world *w, struct caller *caller)
{
    *caller = (struct caller){.world = w};
    assert_int_equal(pthread_create(&caller->thread, NULL, refresh_thread, caller), 0);
}

static void waits_while_somebody_holds_the_lock(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller caller;
    put_pair(w, 1, -1000);
    open_keeper(w);
    assert_int_equal(mkdir(w->lock, 0700), 0);
    begin_refresh(w, &caller);
    await_waiting();
    usleep(200000);
    assert_int_equal(w->server.asked, 0);
    assert_int_equal(rmdir(w->lock), 0);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, 0);
    assert_int_equal(w->server.asked, 1);
    world_free(w);
}

static void adopts_what_the_holder_of_the_lock_has_written(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller caller;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf token = BUF_INIT(64);
    put_pair(w, 1, -1000);
    open_keeper(w);
    assert_int_equal(mkdir(w->lock, 0700), 0);
    begin_refresh(w, &caller);
    await_waiting();
    put_pair(w, 5, HOUR_MS);
    assert_int_equal(rmdir(w->lock), 0);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, 0);
    assert_int_equal(w->server.asked, 0);
    assert_int_equal(keeper_token(w->keeper, &token, &err), 0);
    assert_string_equal(buf_str(&token), "access-5");
    world_free(w);
}

static void refreshes_what_the_holder_left_when_that_has_expired_too(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller caller;
    put_pair(w, 9, -1000);
    open_keeper(w);
    assert_int_equal(mkdir(w->lock, 0700), 0);
    begin_refresh(w, &caller);
    await_waiting();
    put_pair(w, 1, -500);
    assert_int_equal(rmdir(w->lock), 0);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, 0);
    assert_int_equal(pair_in(w->path), 2);
    world_free(w);
}

static void a_lock_left_by_a_dead_process_is_cleared(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    struct timespec old[2] = {{.tv_sec = time(NULL) - 60}, {.tv_sec = time(NULL) - 60}};
    put_pair(w, 1, -1000);
    open_keeper(w);
    assert_int_equal(mkdir(w->lock, 0700), 0);
    assert_int_equal(utimensat(AT_FDCWD, w->lock, old, 0), 0);
    assert_int_equal(keeper_refresh(w->keeper, &err), 0);
    assert_int_equal(w->server.asked, 1);
    world_free(w);
}

/* The clock was set back after it was made; or was it the keeper itself that keeps it young? */
static void a_dead_lock_from_the_future_is_cleared_once_nobody_renews_it(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller caller;
    struct err err = ERR_INIT;
    struct timespec ahead[2] = {{.tv_sec = time(NULL) + 9999}, {.tv_sec = time(NULL) + 9999}};
    put_pair(w, 1, -1000);
    open_keeper(w);
    assert_int_equal(keeper_start(w->keeper, &err), 0);
    await(20000, status_of(w).refresh_ok); /* the background's, on its start */
    assert_int_equal(mkdir(w->lock, 0700), 0);
    assert_int_equal(utimensat(AT_FDCWD, w->lock, ahead, 0), 0);
    begin_refresh(w, &caller);
    await_waiting();
    mono_moved_ms += 29000;
    usleep(2500000); /* two ticks of the background thread */
    mono_moved_ms += 5000;
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, 0);
    assert_int_equal(w->server.asked, 2);
    world_free(w);
}

static void our_lock_is_renewed_while_the_server_takes_its_time(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller caller;
    struct stat st;
    struct timespec old[2] = {{.tv_sec = time(NULL) - 9}, {.tv_sec = time(NULL) - 9}};
    put_pair(w, 1, -1000);
    go = false;
    w->server.before = await_go;
    open_keeper(w);
    begin_refresh(w, &caller);
    await(20000, w->server.asked == 1);
    assert_int_equal(utimensat(AT_FDCWD, w->lock, old, 0), 0);
    await(20000, stat(w->lock, &st) == 0 && st.st_mtim.tv_sec > old[1].tv_sec + 5);
    go = true;
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, 0);
    world_free(w);
}

static void a_lock_that_was_taken_from_us_is_not_removed(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller caller;
    put_pair(w, 1, -1000);
    go = false;
    w->server.before = await_go;
    open_keeper(w);
    begin_refresh(w, &caller);
    await(20000, w->server.asked == 1);
    assert_int_equal(rmdir(w->lock), 0);
    assert_int_equal(mkdir(w->lock, 0700), 0);
    go = true;
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, 0);
    assert_int_equal(rmdir(w->lock), 0);
    world_free(w);
}

static void a_keeper_that_ends_does_not_wait_for_the_lock(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, -1000);
    assert_int_equal(mkdir(w->lock, 0700), 0);
    open_keeper(w);
    assert_int_equal(keeper_start(w->keeper, &err), 0);
    await_waiting();
    int64_t began = system_us(CLOCK_MONOTONIC);
    keeper_free(w->keeper);
    w->keeper = NULL;
    assert_true(system_us(CLOCK_MONOTONIC) - began < 15000000);
    assert_int_equal(w->server.asked, 0);
    assert_int_equal(rmdir(w->lock), 0);
    world_free(w);
}

/* --- while the server is asked ------------------------------------------------------------- */

static void login_meanwhile(void *arg)
{
    put_pair(arg, 50, HOUR_MS);
}

static void a_login_made_during_the_refresh_stays(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, -1000);
    w->server.arg = w;
    w->server.after = login_meanwhile;
    open_keeper(w);
    assert_int_equal(keeper_refresh(w->keeper, &err), 0);
    assert_int_equal(pair_in(w->path), 50);
    assert_false(exists(w->spare));
    world_free(w);
}

static void note_meanwhile(void *arg)
{
    struct world *w = arg;
    put_file(w, "{\"note\":[1,2],\"claudeAiOauth\":{\"accessToken\":\"access-1\","
                "\"refreshToken\":\"refresh-1\",\"expiresAt\":1}}");
}

static void other_changes_made_during_the_refresh_stay(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    AUTO(buf) struct buf text = BUF_INIT(LOGIN_FILE_MAX);
    put_pair(w, 1, -1000);
    w->server.arg = w;
    w->server.after = note_meanwhile;
    open_keeper(w);
    assert_int_equal(keeper_refresh(w->keeper, &err), 0);
    assert_int_equal(pair_in(w->path), 2);
    assert_int_equal(file_read(w->path, &text, &err), 0);
    assert_non_null(strstr(buf_str(&text), "\"note\":[1,2]"));
    world_free(w);
}

static void logout_meanwhile(void *arg)
{
    struct world *w = arg;
    unlink(w->path);
}

static void a_logout_during_the_refresh_stays(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, -1000);
    w->server.arg = w;
    w->server.after = logout_meanwhile;
    open_keeper(w);
    assert_int_equal(keeper_refresh(w->keeper, &err), -1);
    assert_int_equal(err.code, ERR_LOGIN);
    assert_false(exists(w->path));
    assert_false(exists(w->spare));
    assert_int_equal(status_of(w).state, LOGIN_MISSING);
    world_free(w);
}

/* --- the file ------------------------------------------------------------------------------ */

static void owner_and_link_are_kept_and_others_cannot_read(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    struct stat st;
    char real[160];
    snprintf(real, sizeof(real), "%s/kept/credentials", w->dir);
    put_pair(w, 1, -1000);
    snprintf(real, sizeof(real), "%s/kept", w->dir);
    assert_int_equal(mkdir(real, 0700), 0);
    snprintf(real, sizeof(real), "%s/kept/credentials", w->dir);
    assert_int_equal(rename(w->path, real), 0);
    assert_int_equal(symlink("kept/credentials", w->path), 0);
    if (geteuid() == 0)
        assert_int_equal(chown(real, 1234, 1235), 0);
    mode_t mask = umask(0);
    open_keeper(w);
    assert_int_equal(keeper_refresh(w->keeper, &err), 0);
    umask(mask);
    assert_int_equal(lstat(w->path, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(pair_in(real), 2);
    assert_int_equal(stat(real, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    if (geteuid() == 0) {
        assert_int_equal(st.st_uid, 1234);
        assert_int_equal(st.st_gid, 1235);
    }
    world_free(w);
}

static void a_change_within_one_tick_of_the_file_system_is_seen(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    AUTO(buf) struct buf token = BUF_INIT(64);
    put_file(w, "{\"accessToken\":\"access-1\"}");
    open_keeper(w);
    for (char n = '2'; n <= '9'; n++) { /* in place: same inode, same size, same time stamp */
        int fd = open(w->path, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, &n, 1, 23), 1);
        close(fd);
        buf_clear(&token);
        assert_int_equal(keeper_token(w->keeper, &token, &err), 0);
        assert_int_equal(buf_str(&token)[7], n);
    }
    world_free(w);
}

/* Runs `in` in a thread with mounts of its own; false when the host does not allow that. */
struct apart {
    struct world *world;
    void (*in)(struct world *world);
    bool allowed;
};

static void *go_apart(void *arg)
{
    struct apart *apart = arg;
    apart->allowed =
        unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    if (apart->allowed)
        apart->in(apart->world);
    return NULL;
}

static void run_apart(struct world *w, void (*in)(struct world *))
{
    pthread_t thread;
    struct apart apart = {.world = w, .in = in};
    assert_int_equal(pthread_create(&thread, NULL, go_apart, &apart), 0);
    pthread_join(thread, NULL);
    if (!apart.allowed) {
        print_message("SKIPPED: no mount namespaces here\n");
        world_free(w);
        skip();
    }
}

static struct {
    bool mounted;
    int rc, pair, asked;
    struct err err;
} found;

static void refresh_on_a_full_disk(struct world *w)
{
    char filler[160];
    static char zeros[65536];
    found.mounted = mount("tmpfs", w->dir, "tmpfs", 0, "size=256k") == 0;
    if (!found.mounted)
        return;
    put_pair(w, 1, -1000);
    snprintf(filler, sizeof(filler), "%s/filler", w->dir);
    int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, zeros, sizeof(zeros)) > 0)
        continue;
    open_keeper(w);
    found.rc = keeper_refresh(w->keeper, &found.err);
    found.pair = pair_in(w->path);
    found.asked = w->server.asked;
    (void)!ftruncate(fd, 0);
    close(fd);
    struct err err;
    if (keeper_refresh(w->keeper, &err) || pair_in(w->path) != 2)
        found.rc = 1;
}

static void on_a_full_disk_the_server_is_not_even_asked(void **state)
{
    (void)state;
    struct world *w = world_new();
    run_apart(w, refresh_on_a_full_disk);
    assert_true(found.mounted);
    assert_int_equal(found.rc, -1);
    assert_int_equal(found.err.code, ERR_NO_SPACE);
    assert_int_equal(found.asked, 0);
    assert_int_equal(found.pair, 1);
    world_free(w);
}

static void refresh_a_mounted_file(struct world *w)
{
    put_pair(w, 1, -1000);
    found.mounted = mount(w->path, w->path, NULL, MS_BIND, NULL) == 0;
    open_keeper(w);
    found.rc = keeper_refresh(w->keeper, &found.err);
    found.pair = pair_in(w->path);
    found.asked = w->server.asked;
}

/* As containers mount single files: the rename would fail when the old token is spent. */
static void a_file_that_cannot_be_replaced_is_not_refreshed(void **state)
{
    (void)state;
    struct world *w = world_new();
    run_apart(w, refresh_a_mounted_file);
    assert_true(found.mounted);
    assert_int_equal(found.rc, -1);
    assert_non_null(strstr(found.err.msg, "mount its directory"));
    assert_int_equal(found.asked, 0);
    assert_int_equal(found.pair, 1);
    world_free(w);
}

/* --- what a killed process left ------------------------------------------------------------ */

static void leave_spare(const struct world *w, int n, off_t padding)
{
    struct world at_spare = *w;
    snprintf(at_spare.path, sizeof(at_spare.path), "%s", w->spare);
    put_pair(&at_spare, n, HOUR_MS);
    struct stat st;
    assert_int_equal(stat(w->spare, &st), 0);
    assert_int_equal(truncate(w->spare, st.st_size + padding), 0);
}

static void a_pair_that_a_killed_process_left_is_adopted(void **state)
{
    (void)state;
    for (off_t padding = 0; padding <= 4096; padding += 4096) {
        struct world *w = world_new();
        struct err err = ERR_INIT;
        put_pair(w, 1, -1000);
        w->server.serial = 2;
        leave_spare(w, 2, padding);
        open_keeper(w);
        assert_int_equal(keeper_prepare(w->keeper, 0, &err), 0);
        assert_int_equal(w->server.asked, 0);
        assert_int_equal(pair_in(w->path), 2);
        assert_false(exists(w->spare));
        assert_int_equal(keeper_refresh(w->keeper, &err), 0);
        assert_int_equal(pair_in(w->path), 3);
        world_free(w);
    }
}

static void a_left_pair_older_than_the_login_is_not(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    struct timespec old[2] = {{.tv_sec = time(NULL) - 60}, {.tv_sec = time(NULL) - 60}};
    put_pair(w, 1, -1000);
    leave_spare(w, 9, 0);
    assert_int_equal(utimensat(AT_FDCWD, w->spare, old, 0), 0);
    open_keeper(w);
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), 0);
    assert_int_equal(w->server.asked, 1);
    assert_int_equal(pair_in(w->path), 2);
    assert_false(exists(w->spare));
    world_free(w);
}

static void what_was_left_unfinished_is_not(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, -1000);
    leave_spare(w, 9, 0);
    struct stat st;
    assert_int_equal(stat(w->spare, &st), 0);
    assert_int_equal(truncate(w->spare, st.st_size - 3), 0);
    open_keeper(w);
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), 0);
    assert_int_equal(pair_in(w->path), 2);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_while_somebody_holds_the_lock),
        cmocka_unit_test(adopts_what_the_holder_of_the_lock_has_written),
        cmocka_unit_test(refreshes_what_the_holder_left_when_that_has_expired_too),
        cmocka_unit_test(a_lock_left_by_a_dead_process_is_cleared),
        cmocka_unit_test(a_dead_lock_from_the_future_is_cleared_once_nobody_renews_it),
        cmocka_unit_test(our_lock_is_renewed_while_the_server_takes_its_time),
        cmocka_unit_test(a_lock_that_was_taken_from_us_is_not_removed),
        cmocka_unit_test(a_keeper_that_ends_does_not_wait_for_the_lock),
        cmocka_unit_test(a_login_made_during_the_refresh_stays),
        cmocka_unit_test(other_changes_made_during_the_refresh_stay),
        cmocka_unit_test(a_logout_during_the_refresh_stays),
        cmocka_unit_test(owner_and_link_are_kept_and_others_cannot_read),
        cmocka_unit_test(a_change_within_one_tick_of_the_file_system_is_seen),
        cmocka_unit_test(on_a_full_disk_the_server_is_not_even_asked),
        cmocka_unit_test(a_file_that_cannot_be_replaced_is_not_refreshed),
        cmocka_unit_test(a_pair_that_a_killed_process_left_is_adopted),
        cmocka_unit_test(a_left_pair_older_than_the_login_is_not),
        cmocka_unit_test(what_was_left_unfinished_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
