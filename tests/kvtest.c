/* Test helpers; a failed check prints what was found and ends the test through cmocka. */
#include "tests/kvtest.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "planner/base/unit.h"

void kt_u64_at(uint64_t got, uint64_t want, const char *what, const char *file, int line)
{
    char a[32], b[32];

    if (got == want)
        return;
    print_error("%s: got %" PRIu64 " (%s), want %" PRIu64 " (%s), difference %s%" PRIu64 "\n",
                what, got, unit_format_bytes(got, a, sizeof a), want,
                unit_format_bytes(want, b, sizeof b), got > want ? "+" : "-",
                got > want ? got - want : want - got);
    _fail(file, line);
}

void kt_rel_at(double got, double want, double tol, const char *what, const char *file,
               int line)
{
    double apart = got > want ? got - want : want - got;
    double size = want < 0 ? -want : want;

    if (apart <= tol * size)
        return;
    print_error("%s: got %.17g, want %.17g within %g\n", what, got, want, tol);
    _fail(file, line);
}

static int line_of(const char *text, size_t offset)
{
    int line = 1;

    for (size_t i = 0; i < offset; i++)
        line += text[i] == '\n';
    return line;
}

void kt_same_at(const char *got, const char *want, const char *file, int line)
{
    size_t i = 0;

    if (strcmp(got, want) == 0)
        return;
    while (got[i] != '\0' && got[i] == want[i])
        i++;
    fprintf(stderr, "texts differ on line %d\n--- got\n%s\n--- want\n%s\n---\n",
            line_of(got, i), got, want);
    _fail(file, line);
}

char *kt_slurp(struct arena *a, const char *path)
{
    FILE *f = fopen(path, "r");
    size_t n = 0, cap = 4096;
    char *text = arena_alloc(a, cap + 1, 1);

    if (!f)
        return NULL;
    for (;;) {
        size_t got = fread(text + n, 1, cap - n, f);

        n += got;
        if (got == 0)
            break;
        if (n == cap) {
            text = arena_grow(a, text, n, cap * 2 + 1, 1);
            cap *= 2;
        }
    }
    fclose(f);
    text[n] = '\0';
    return text;
}

void kt_text_at(const char *got, const char *path, const char *file, int line)
{
    const char *update = getenv("UPDATE");
    struct arena *a = arena_new();
    char *want;
    FILE *f;

    if (update && *update && strcmp(update, "0") != 0) {
        f = fopen(path, "w");
        if (!f || fputs(got, f) < 0 || fclose(f) != 0) {
            print_error("%s cannot be written\n", path);
            _fail(file, line);
        }
        arena_free(a);
        return;
    }
    want = kt_slurp(a, path);
    if (!want)
        print_error("%s is missing; UPDATE=1 writes it\n", path);
    kt_same_at(got, want ? want : "", file, line);
    arena_free(a);
}

void kt_diag_at(const struct diag *d, const char *substring, int at_line, const char *file,
                int line)
{
    for (size_t i = 0; i < diag_count(d); i++) {
        const struct diag_message *m = diag_at(d, i);
        if (strstr(m->text, substring) && (at_line == 0 || m->at.line == at_line))
            return;
    }
    print_error("no message with \"%s\" on line %d; there are:\n", substring, at_line);
    diag_print(d, 0, true, stderr);
    _fail(file, line);
}

void kt_printed_at(const struct diag *d, const char *want, const char *file, int line)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    if (!f)
        fail_msg("open_memstream failed");
    diag_print(d, 0, true, f);
    fclose(f);
    kt_same_at(text, want, file, line);
    free(text);
}

uint64_t kt_seed(uint64_t fallback)
{
    const char *s = getenv("KV_SEED");
    uint64_t seed = fallback;

    if (s && unit_parse_u64(s, &seed) != UNIT_OK)
        fail_msg("KV_SEED is not a number: %s", s);
    print_message("# KV_SEED=%" PRIu64 "\n", seed);
    return seed;
}

int kt_open(void **state)
{
    struct arena *a = arena_new();
    struct kt *k = ARENA_NEW(a, struct kt, 1);

    k->a = a;
    k->d = diag_new(a);
    *state = k;
    return 0;
}

int kt_close(void **state)
{
    struct kt *k = *state;

    arena_free(k->a);
    return 0;
}

char *kt_folder(struct arena *a)
{
    const char *base = getenv("TMPDIR");
    char *path = arena_printf(a, "%s/kvtest.XXXXXX", base && *base ? base : "/tmp");

    if (!mkdtemp(path))
        fail_msg("no temporary folder: %s", path);
    return path;
}

void kt_folder_remove(const char *path)
{
    struct arena *a = arena_new();
    DIR *dir = opendir(path);

    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlink(arena_printf(a, "%s/%s", path, e->d_name));
    }
    if (dir)
        closedir(dir);
    rmdir(path);
    arena_free(a);
}
