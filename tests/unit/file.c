/* Reading with a limit, writing all or nothing. */
#include "tests/kvtest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "planner/base/file.h"

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static size_t entries(struct arena *a, const char *folder)
{
    FILE *f = popen(arena_printf(a, "ls -A %s | wc -l", folder), "r");
    char line[32] = "";

    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    pclose(f);
    return (size_t)(line[0] - '0');
}

static void test_read(void **state)
{
    struct kt *k = *state;
    char *folder = kt_folder(k->a), *path = arena_printf(k->a, "%s/in", folder), *text = NULL;
    size_t n = 0;

    put(path, "hello\n");
    assert_true(file_read(k->a, path, 6, k->d, &text, &n));
    kt_u64(n, 6);
    assert_string_equal(text, "hello\n");
    put(path, "");
    assert_true(file_read(k->a, path, 0, k->d, &text, &n));
    kt_u64(n, 0);
    assert_string_equal(text, "");
    assert_true(file_exists(path));
    assert_false(file_is_dir(path));
    assert_true(file_is_dir(folder));
    kt_folder_remove(folder);
    assert_false(file_exists(path));
}

static void test_read_errors(void **state)
{
    struct kt *k = *state;
    char *folder = kt_folder(k->a), *path = arena_printf(k->a, "%s/in", folder), *text = NULL;
    size_t n = 0;

    put(path, "hello\n");
    assert_false(file_read(k->a, path, 5, k->d, &text, &n));
    assert_false(file_read(k->a, folder, 5, k->d, &text, &n));
    assert_false(file_read(k->a, "no/such/file", 5, k->d, &text, &n));
    assert_false(file_read(k->a, "/dev/zero", 4096, k->d, &text, &n));
    assert_false(file_read(k->a, "", 4096, k->d, &text, &n));
    kt_printed(k->d, arena_printf(k->a,
                                  "%s: error: is longer than 5 B, the most that is read here\n"
                                  "%s: error: cannot be read: Is a directory\n"
                                  "no/such/file: error: cannot be opened: No such file or "
                                  "directory\n"
                                  "/dev/zero: error: is longer than 4.00 KiB, the most that is "
                                  "read here\n"
                                  ": error: cannot be opened: No such file or directory\n",
                                  path, folder));
    assert_int_equal(diag_exit(k->d), 3);
    kt_folder_remove(folder);
}

/* A pipe has no size; the text comes in pieces. */
static void test_read_stdin(void **state)
{
    struct kt *k = *state;
    size_t size = 50000, n = 0;
    char *text = arena_alloc(k->a, size, 1), *got = NULL;
    int ends[2], keep = dup(STDIN_FILENO);

    memset(text, 'a', size);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], text, size), size);
    close(ends[1]);
    dup2(ends[0], STDIN_FILENO);
    close(ends[0]);
    assert_true(file_read(k->a, "-", 1 << 20, k->d, &got, &n));
    assert_false(file_read(k->a, "-", 1 << 20, k->d, &got, &n) && n > 0);
    dup2(keep, STDIN_FILENO);
    close(keep);
    kt_u64(strlen(got), 0);
}

static void test_write(void **state)
{
    struct kt *k = *state;
    char *folder = kt_folder(k->a), *path = arena_printf(k->a, "%s/out", folder);
    struct file_out out;
    struct stat st;

    put(path, "old");
    assert_int_equal(chmod(path, 0640), 0);
    assert_true(file_create(k->a, path, stdout, k->d, &out));
    fputs("new", out.f);
    fflush(out.f);
    assert_string_equal(kt_slurp(k->a, path), "old"); /* until it is complete */
    assert_true(file_commit(&out, k->d));
    assert_string_equal(kt_slurp(k->a, path), "new");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);

    assert_true(file_create(k->a, path, stdout, k->d, &out));
    fputs("never", out.f);
    file_abandon(&out);
    assert_string_equal(kt_slurp(k->a, path), "new");
    kt_u64(entries(k->a, folder), 1); /* no temporary left */

    path = arena_printf(k->a, "%s/fresh", folder);
    assert_true(file_create(k->a, path, stdout, k->d, &out));
    assert_false(file_exists(path));
    assert_true(file_commit(&out, k->d));
    assert_string_equal(kt_slurp(k->a, path), "");
    kt_u64(diag_count(k->d), 0);
    kt_folder_remove(folder);
}

static void test_write_through_link(void **state)
{
    struct kt *k = *state;
    char *folder = kt_folder(k->a), *path = arena_printf(k->a, "%s/real", folder);
    char *sym = arena_printf(k->a, "%s/link", folder);
    struct file_out out;
    struct stat st;

    put(path, "old");
    assert_int_equal(symlink("real", sym), 0);
    assert_true(file_create(k->a, sym, stdout, k->d, &out));
    fputs("new", out.f);
    assert_true(file_commit(&out, k->d));
    assert_string_equal(kt_slurp(k->a, path), "new");
    assert_int_equal(lstat(sym, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    kt_folder_remove(folder);
}

static void test_write_standard(void **state)
{
    struct kt *k = *state;
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    struct file_out out;

    assert_true(file_create(k->a, NULL, f, k->d, &out));
    fputs("a", out.f);
    assert_true(file_commit(&out, k->d));
    assert_true(file_create(k->a, "-", f, k->d, &out));
    fputs("b", out.f);
    assert_true(file_commit(&out, k->d));
    assert_true(file_create(k->a, "-", f, k->d, &out));
    file_abandon(&out);
    fclose(f);
    assert_string_equal(text, "ab");
    free(text);
}

static void test_write_errors(void **state)
{
    struct kt *k = *state;
    char *folder = kt_folder(k->a);
    struct file_out out;
    FILE *full = fopen("/dev/full", "w");

    assert_false(file_create(k->a, folder, stdout, k->d, &out));
    assert_null(out.f);
    assert_false(file_create(k->a, "no/such/folder/x", stdout, k->d, &out));
    kt_printed(k->d, arena_printf(k->a,
                                  "%s: error: cannot be written: Is a directory\n"
                                  "no/such/folder/x: error: cannot be written: No such file or "
                                  "directory\n",
                                  folder));
    kt_folder_remove(folder);
    if (!full)
        skip();
    assert_true(file_create(k->a, NULL, full, k->d, &out));
    fputs("x", out.f);
    assert_false(file_commit(&out, k->d));
    fclose(full);
    kt_diag(k->d, "cannot be written: No space left on device", 0);
    assert_string_equal(diag_at(k->d, 2)->at.file, "<stdout>");
    /* a device is written in place, never replaced by a file */
    assert_true(file_create(k->a, "/dev/full", stdout, k->d, &out));
    fputs("x", out.f);
    assert_false(file_commit(&out, k->d));
    assert_string_equal(diag_at(k->d, 3)->at.file, "/dev/full");
    assert_int_equal(diag_exit(k->d), 7);
}

/* Somebody takes the temporary away: said, and the old file stays. */
static void test_write_no_rename(void **state)
{
    struct kt *k = *state;
    char *folder = kt_folder(k->a), *path = arena_printf(k->a, "%s/out", folder);
    struct file_out out;

    put(path, "old");
    assert_true(file_create(k->a, path, stdout, k->d, &out));
    assert_int_equal(unlink(out.temporary), 0);
    assert_false(file_commit(&out, k->d));
    kt_printed(
        k->d,
        arena_printf(k->a, "%s: error: cannot be written: No such file or directory\n", path));
    assert_string_equal(kt_slurp(k->a, path), "old");
    kt_folder_remove(folder);
}

/* A temporary left by a killed run of the same process number does not stand in the way. */
static void test_write_beside_leftover(void **state)
{
    struct kt *k = *state;
    char *folder = kt_folder(k->a), *path = arena_printf(k->a, "%s/out", folder);
    struct file_out first, second;

    assert_true(file_create(k->a, path, stdout, k->d, &first));
    assert_true(file_create(k->a, path, stdout, k->d, &second));
    assert_string_not_equal(first.temporary, second.temporary);
    fputs("2", second.f);
    assert_true(file_commit(&second, k->d));
    file_abandon(&first);
    assert_string_equal(kt_slurp(k->a, path), "2");
    kt_u64(entries(k->a, folder), 1);
    kt_folder_remove(folder);
}

/* Out of room in the middle: the old file stays, the temporary goes. */
static void test_write_full_disk(void **state)
{
    struct kt *k = *state;
    char *folder = kt_folder(k->a), *path = arena_printf(k->a, "%s/out", folder);
    struct file_out out;
    FILE *full;

    put(path, "old");
    assert_true(file_create(k->a, path, stdout, k->d, &out));
    full = freopen("/dev/full", "w", out.f);
    if (!full) {
        kt_folder_remove(folder);
        skip();
    }
    out.f = full;
    fputs("new", out.f);
    assert_false(file_commit(&out, k->d));
    kt_diag(k->d, "cannot be written: No space left on device", 0);
    assert_string_equal(kt_slurp(k->a, path), "old");
    kt_u64(entries(k->a, folder), 1);
    kt_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_read),
        kt_test(test_read_errors),
        kt_test(test_read_stdin),
        kt_test(test_write),
        kt_test(test_write_through_link),
        kt_test(test_write_standard),
        kt_test(test_write_errors),
        kt_test(test_write_full_disk),
        kt_test(test_write_no_rename),
        kt_test(test_write_beside_leftover),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
