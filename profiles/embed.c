/* Host program of the build: checks every profile and writes them as one C file, a blob of text
 * with a sorted index (see planner/doc/profile_key.h).
 *
 *     embed PROFILES_FOLDER OUT.c
 *
 * A profile is refused when it cannot be read, lacks its name, takes a name or alias of another
 * of its kind, or says a number without saying where it is from: GPUs as {value, source},
 * models in a list `sources`, evidence on each row, workloads and engines in `source` or
 * `sources`. Exit 0, 2 usage, 3 bad profiles, 7 not written. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/arena.h"
#include "planner/base/diag.h"
#include "planner/base/file.h"
#include "planner/doc/doc.h"
#include "planner/doc/profile.h"
#include "planner/doc/profile_key.h"

struct source_file {
    enum profile_kind kind;
    const char *path, *label, *name, *text; /* path: for messages; label: in the binary */
    size_t size;
    struct profile_keys keys;
};

struct index_key {
    enum profile_kind kind;
    const char *text;
    struct loc at;
    size_t file;
    bool bare;
};

struct set {
    struct arena *a;
    struct diag *d;
    struct source_file *files;
    size_t n_files, cap_files;
    struct index_key *keys;
    size_t n_keys;
};

/* ---- what a kind demands ---------------------------------------- */

static bool has_text(const struct doc_node *n)
{
    return n && n->kind == DOC_SCALAR && n->text[0] != '\0';
}

static bool in_words(const char *key, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(key, *words) == 0)
            return true;
    return false;
}

/* Every figure of a GPU is {value: ..., source: ...}, those of `efficiency` too. */
static bool check_figures(const struct doc_node *map, struct diag *d)
{
    static const char *const words[] = {
        "name",  "aliases", "vendor", "architecture", "compute_capability", "confidence",
        "notes", "sources", NULL};
    bool ok = true;

    for (const struct doc_node *n = map->first; n; n = n->next) {
        if (in_words(n->key, words))
            continue;
        if (strcmp(n->key, "efficiency") == 0 && n->kind == DOC_MAP)
            ok = check_figures(n, d) && ok;
        else if (!has_text(doc_get(n, "value")) || !has_text(doc_get(n, "source")))
            ok = diag_add(d, DIAG_INPUT, n->key_at, "'%s' must be {value: ..., source: ...}",
                          n->key);
    }
    return ok;
}

static bool has_sources(const struct doc_node *doc)
{
    const struct doc_node *sources = doc_get(doc, "sources");

    return has_text(doc_get(doc, "source")) || has_text(sources) ||
           (sources && sources->kind != DOC_SCALAR && sources->n > 0);
}

static bool check_sources(const struct doc_node *doc, const char *key, struct diag *d)
{
    if (has_sources(doc))
        return true;
    return diag_add(d, DIAG_INPUT, doc->at, "a profile without '%s'", key);
}

static bool check_rows(const struct doc_node *list, struct diag *d)
{
    static const char *const keys[] = {"model", "metric",   "higher_is_better", "setting",
                                       "value", "baseline", "source",           "confidence",
                                       "note",  NULL};
    static const char *const optional[] = {"baseline", "note", NULL};
    bool ok = true;

    if (!list)
        return true;
    if (list->kind != DOC_LIST)
        return diag_add(d, DIAG_INPUT, list->at, "'%s' must be a list", list->key);
    for (const struct doc_node *row = list->first; row; row = row->next) {
        for (const char *const *k = keys; *k; k++)
            if (!doc_get(row, *k) && !in_words(*k, optional))
                ok = diag_add(d, DIAG_INPUT, row->at, "a row without '%s'", *k);
        for (const struct doc_node *n = row->first; n; n = n->next)
            if (n->key && !in_words(n->key, keys))
                ok = diag_add(d, DIAG_INPUT, n->key_at, "unknown key '%s' in a row", n->key);
        if (doc_get(row, "source") && !has_text(doc_get(row, "source")))
            ok = diag_add(d, DIAG_INPUT, doc_get(row, "source")->at, "a row without 'source'");
    }
    return ok;
}

static bool check_evidence(const struct doc_node *doc, struct diag *d)
{
    bool ok = check_rows(doc_get(doc, "rows"), d);

    ok = check_rows(doc_get(doc, "contested"), d) && ok;
    ok = check_rows(doc_get(doc, "memory"), d) && ok;
    if (!has_text(doc_get(doc, "scheme")))
        ok = diag_add(d, DIAG_INPUT, doc->at, "evidence without 'scheme'");
    return ok;
}

static bool check_profile(enum profile_kind k, const struct doc_node *doc, struct diag *d)
{
    bool ok = true;

    if (k == PROFILE_EXAMPLE || k == PROFILE_SCHEMA || k == PROFILE_MEASURED)
        return true;
    if (doc->kind != DOC_MAP)
        return diag_add(d, DIAG_INPUT, doc->at, "a profile must be a map");
    if (!doc_get(doc, "name"))
        ok = diag_add(d, DIAG_INPUT, doc->at, "a profile without 'name'");
    if (k == PROFILE_GPU)
        ok = check_figures(doc, d) && ok;
    else if (k == PROFILE_EVIDENCE)
        ok = check_evidence(doc, d) && ok;
    else
        ok = check_sources(doc, k == PROFILE_MODEL ? "sources" : "source", d) && ok;
    return ok;
}

/* ---- reading ---------------------------------------- */

static bool read_one(struct set *s, enum profile_kind k, const char *folder, const char *file)
{
    struct source_file *f;
    struct doc_node *doc = NULL;
    char *text = NULL;

    if (s->n_files == s->cap_files) {
        size_t cap = s->cap_files ? s->cap_files * 2 : 128;
        s->files = arena_grow(s->a, s->files, s->cap_files, cap, sizeof *s->files);
        s->cap_files = cap;
    }
    f = &s->files[s->n_files];
    f->kind = k;
    f->path = arena_printf(s->a, "%s/%s", folder, file);
    f->label = arena_printf(s->a, "<builtin>/%s/%s", profile_folder(k), file);
    if (!file_read(s->a, f->path, DOC_FILE_MAX, s->d, &text, &f->size) ||
        !profile_parse(s->a, f->path, text, f->size, s->d, &doc) ||
        !check_profile(k, doc, s->d) ||
        !profile_keys(s->a, k, profile_stem(s->a, k, file), doc, s->d, &f->keys))
        return false;
    f->text = text;
    f->name = f->keys.name;
    s->n_files++;
    return true;
}

static int by_kind_and_name(const void *x, const void *y)
{
    const struct source_file *a = x, *b = y;

    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return strcmp(a->name, b->name);
}

static bool read_all(struct set *s, const char *dir)
{
    bool ok = true;

    for (int k = 0; k < PROFILE_KINDS; k++) {
        const char *folder =
            arena_printf(s->a, "%s/%s", dir, profile_folder((enum profile_kind)k));
        size_t n = 0;
        char **files = profile_files(s->a, (enum profile_kind)k, folder, &n);

        for (size_t i = 0; i < n; i++)
            ok = read_one(s, (enum profile_kind)k, folder, files[i]) && ok;
    }
    if (s->n_files > 0)
        qsort(s->files, s->n_files, sizeof *s->files, by_kind_and_name);
    return ok;
}

/* ---- the index ---------------------------------------- */

/* By kind and text; among equal ones a true name comes before a bare one, then by file. */
static int by_kind_and_text(const void *x, const void *y)
{
    const struct index_key *a = x, *b = y;
    int c = strcmp(a->text, b->text);

    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (c != 0)
        return c;
    if (a->bare != b->bare)
        return a->bare ? 1 : -1;
    return a->file < b->file ? -1 : a->file > b->file;
}

static bool same_key(const struct index_key *a, const struct index_key *b)
{
    return a->kind == b->kind && strcmp(a->text, b->text) == 0;
}

/* Drops bare names that more than one profile has; two true names that are equal are an
 * error. */
static bool settle_keys(struct set *s)
{
    size_t kept = 0;
    bool ok = true;

    for (size_t i = 0, next; i < s->n_keys; i = next) {
        struct index_key *k = &s->keys[i];

        for (next = i + 1; next < s->n_keys && same_key(k, &s->keys[next]); next++) {
            const struct index_key *other = &s->keys[next];
            if (!other->bare)
                ok = diag_add(s->d, DIAG_INPUT,
                              other->at.file ? other->at
                                             : (struct loc){s->files[other->file].path, 0, 0},
                              "the name '%s' is already taken by %s", other->text,
                              s->files[k->file].path);
        }
        if (!k->bare || next == i + 1)
            s->keys[kept++] = *k;
    }
    s->n_keys = kept;
    return ok;
}

static bool make_index(struct set *s)
{
    size_t n = 0;

    for (size_t i = 0; i < s->n_files; i++)
        n += s->files[i].keys.n;
    s->keys = ARENA_NEW(s->a, struct index_key, n + 1);
    for (size_t i = 0; i < s->n_files; i++) {
        const struct source_file *f = &s->files[i];
        for (size_t j = 0; j < f->keys.n; j++) {
            const struct profile_key *k = &f->keys.v[j];
            s->keys[s->n_keys++] = (struct index_key){f->kind, k->text, k->at, i, k->bare};
        }
    }
    qsort(s->keys, s->n_keys, sizeof *s->keys, by_kind_and_text);
    return settle_keys(s);
}

/* ---- writing ---------------------------------------- */

struct blob {
    FILE *f;
    size_t n;
};

/* Strings longer than 4095 characters are not portable C, so the text is written byte by byte.
 * Returns the offset of the text, which gets a NUL at its end. */
static uint32_t put(struct blob *b, const char *text, size_t n)
{
    size_t at = b->n;

    for (size_t i = 0; i <= n; i++) {
        fprintf(b->f, "%u,", i < n ? (unsigned)(unsigned char)text[i] : 0u);
        if (++b->n % 24 == 0)
            fputc('\n', b->f);
    }
    return (uint32_t)at;
}

static void write_source(const struct set *s, FILE *out)
{
    struct blob b = {out, 0};
    struct arena *a = s->a;
    struct builtin_file *files = ARENA_NEW(a, struct builtin_file, s->n_files + 1);
    struct builtin_key *keys = ARENA_NEW(a, struct builtin_key, s->n_keys + 1);

    fputs("/* Made by profiles/embed.c from the profiles; do not edit. */\n"
          "#include \"planner/doc/profile_key.h\"\n\nstatic const unsigned char bytes[] = {\n",
          out);
    for (size_t i = 0; i < s->n_files; i++) {
        const struct source_file *f = &s->files[i];
        files[i].kind = (uint32_t)f->kind;
        files[i].name = put(&b, f->name, strlen(f->name));
        files[i].label = put(&b, f->label, strlen(f->label));
        files[i].text = put(&b, f->text, f->size);
        files[i].size = (uint32_t)f->size;
    }
    for (size_t i = 0; i < s->n_keys; i++) {
        const struct index_key *k = &s->keys[i];
        keys[i].kind = (uint32_t)k->kind;
        keys[i].text = put(&b, k->text, strlen(k->text));
        keys[i].file = (uint32_t)k->file;
    }
    fputs("0};\n\nstatic const struct builtin_file files[] = {\n", out);
    for (size_t i = 0; i < s->n_files; i++)
        fprintf(out, "    {%u, %u, %u, %u, %u},\n", files[i].kind, files[i].name,
                files[i].label, files[i].text, files[i].size);
    fputs("    {0, 0, 0, 0, 0},\n};\n\nstatic const struct builtin_key keys[] = {\n", out);
    for (size_t i = 0; i < s->n_keys; i++)
        fprintf(out, "    {%u, %u, %u},\n", keys[i].kind, keys[i].text, keys[i].file);
    fprintf(out,
            "    {0, 0, 0},\n};\n\nconst struct builtin_profiles builtin_profiles = {\n"
            "    bytes, %zu, keys, %zu, files, %zu,\n};\n",
            b.n, s->n_keys, s->n_files);
}

/* Offsets are 32 bits wide; there is no telling more than that from a folder of small files. */
static bool check_size(const struct set *s, const char *dir)
{
    size_t n = 0;

    for (size_t i = 0; i < s->n_files && n < UINT32_MAX / 2; i++)
        n += s->files[i].size;
    if (n < UINT32_MAX / 2)
        return true;
    return diag_add(s->d, DIAG_INPUT, (struct loc){dir, 0, 0}, "more than 2 GiB of profiles");
}

static bool embed(struct arena *a, const char *dir, const char *path, struct diag *d)
{
    struct set s = {.a = a, .d = d};
    struct file_out out;
    bool ok;

    if (!file_is_dir(dir))
        return diag_add(d, DIAG_INPUT, (struct loc){dir, 0, 0}, "no such folder of profiles");
    ok = read_all(&s, dir);
    ok = make_index(&s) && ok;
    if (!ok || !check_size(&s, dir) || !file_create(a, path, stdout, d, &out))
        return false;
    write_source(&s, out.f);
    return file_commit(&out, d);
}

int main(int argc, char **argv)
{
    struct arena *a = arena_new();
    struct diag *d = diag_new(a);
    int status;

    if (argc == 3)
        embed(a, argv[1], argv[2], d);
    else
        diag_add(d, DIAG_USAGE, (struct loc){"embed", 0, 0},
                 "usage: embed PROFILES_FOLDER OUT.c");
    diag_print(d, 0, false, stderr);
    status = diag_exit(d);
    arena_free(a);
    return status;
}
