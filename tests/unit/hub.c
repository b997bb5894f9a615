/* Ids of repositories, the layout of the local cache, and what forbids fetching. Fetching
 * itself is tested against a server by tests/script/hub. */
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/kvgguf.h"

#include "planner/model/fetch.h"
#include "planner/model/hub.h"

static void test_ids(void **state)
{
    struct kt *t = *state;
    static const char *const bad[] = {
        "gpt2",  "/a/b",   "./a",  "a/../b", "a//b",          "a/b/",       "a/b/c",
        "a/b@",  "a/b@/c", "-a/b", "a/.b",   "a/b@x/y",       "a/b/c.bin",  "a/b?x",
        "a b/c", "",       "@a/b", "a@b/c",  "a/b/../c.gguf", "a/b/.c.gguf"};
    struct hub_id id;

    assert_true(hub_parse(t->a, "Qwen/Qwen3-8B", &id));
    kt_same(id.repo, "Qwen/Qwen3-8B");
    kt_same(id.revision, "main");
    assert_null(id.file);
    assert_true(hub_parse(t->a, "a/b@v1.0", &id));
    kt_same(id.repo, "a/b");
    kt_same(id.revision, "v1.0");
    assert_true(hub_parse(t->a, "a/b-GGUF/Q4_0/b-00001-of-00002.gguf@c0ffee", &id));
    kt_same(id.repo, "a/b-GGUF");
    kt_same(id.file, "Q4_0/b-00001-of-00002.gguf");
    kt_same(id.revision, "c0ffee");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (hub_parse(t->a, bad[i], &id))
            fail_msg("'%s' is taken for the id of a repository", bad[i]);
    }
}

/* hub/models--a--b with refs/main -> abc and a snapshot of it. */
static void test_cache(void **state)
{
    struct kt *t = *state;
    char *top = kt_folder(t->a);
    const char *hub = arena_printf(t->a, "%s/hub", top),
               *repo = arena_printf(t->a, "%s/models--a--b", hub),
               *refs = arena_printf(t->a, "%s/refs", repo),
               *main_ref = arena_printf(t->a, "%s/main", refs),
               *snapshots = arena_printf(t->a, "%s/snapshots", repo),
               *commit = arena_printf(t->a, "%s/abc", snapshots);
    struct hub_id id;

    assert_true(hub_parse(t->a, "a/b", &id));
    unsetenv("HF_HUB_CACHE");
    setenv("HF_HOME", top, 1);
    assert_null(hub_cached(t->a, &id));
    assert_int_equal(mkdir(hub, 0700) | mkdir(repo, 0700) | mkdir(refs, 0700) |
                         mkdir(snapshots, 0700) | mkdir(commit, 0700),
                     0);
    assert_null(hub_cached(t->a, &id));
    ks_text(main_ref, "abc\n");
    kt_same(hub_cached(t->a, &id), commit);
    id.revision = "abc"; /* a commit by itself */
    kt_same(hub_cached(t->a, &id), commit);
    id.revision = "main";
    ks_text(main_ref, "../../../etc");
    assert_null(hub_cached(t->a, &id));
    ks_text(main_ref, "gone");
    assert_null(hub_cached(t->a, &id));
    ks_text(main_ref, "abc");
    setenv("HF_HOME", "/nonexistent", 1);
    assert_null(hub_cached(t->a, &id));
    setenv("HF_HUB_CACHE", hub, 1);
    kt_same(hub_cached(t->a, &id), commit);
    unsetenv("HF_HUB_CACHE");
    unsetenv("HF_HOME");
    rmdir(commit);
    rmdir(snapshots);
    kt_folder_remove(refs);
    rmdir(repo);
    rmdir(hub);
    kt_folder_remove(top);
}

static void test_forbidden(void **state)
{
    struct kt *t = *state;
    struct hub_id id = {"a/b", "main", NULL};
    struct store s;

    setenv("HF_HUB_OFFLINE", "1", 1);
    assert_false(hub_connect(t->a, &id, t->d, &s));
    setenv("HF_HUB_OFFLINE", "0", 1);
    setenv("HF_ENDPOINT", "file:///etc", 1);
    assert_false(hub_connect(t->a, &id, t->d, &s));
    setenv("HF_ENDPOINT", "http://127.0.0.1:9", 1);
    setenv("HF_TOKEN", "a\r\nX: y", 1);
    assert_false(hub_connect(t->a, &id, t->d, &s));
    unsetenv("HF_HUB_OFFLINE");
    unsetenv("HF_ENDPOINT");
    unsetenv("HF_TOKEN");
    kt_printed(t->d,
               "a/b: error: is not in the local cache, and HF_HUB_OFFLINE forbids fetching it\n"
               "a/b: error: HF_ENDPOINT must start with https:// or http://, found "
               "'file:///etc'\n"
               "a/b: error: HF_TOKEN holds characters that no token has\n");
}

static void test_no_library(void **state)
{
    struct kt *t = *state;
    struct fetch *f = NULL;

    assert_false(fetch_open(t->a, "libkvbudget-none.so.1", t->d, &f));
    assert_null(f);
    assert_false(fetch_open(t->a, "libc.so.6", t->d, &f));
    fetch_close(f);
    kt_printed(
        t->d,
        "kvbudget: error: fetching needs libcurl, which is not installed (Debian: apt-get "
        "install libcurl4); or fetch the model's config.json and import that\n"
        "kvbudget: error: the libcurl found here lacks functions that fetching needs\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_ids),
        kt_test(test_cache),
        kt_test(test_forbidden),
        kt_test(test_no_library),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
