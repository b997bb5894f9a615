/* Profiles: the builtin blob, users' folders before it, and what the embedding refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "planner/base/arena.h"
#include "planner/base/diag.h"
#include "planner/base/file.h"
#include "planner/doc/profile.h"
#include "planner/doc/profile_key.h"

/* The embedding is a program of its own; its parts are tested from inside. */
int embed_main(int argc, char **argv);
#define main embed_main
#include "profiles/embed.c"
#undef main

struct fixture {
    struct arena *a;
    struct diag *d;
    char *dir; /* a fresh folder */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char name[] = "/tmp/kvbudget-profile-XXXXXX";

    assert_non_null(f);
    f->a = arena_new();
    f->d = diag_new(f->a);
    assert_non_null(mkdtemp(name));
    f->dir = arena_strdup(f->a, name);
    assert_int_equal(setenv("XDG_CONFIG_HOME", "/nonexistent", 1), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char *command = arena_printf(f->a, "rm -rf '%s'", f->dir);

    assert_int_equal(system(command), 0);
    arena_free(f->a);
    free(f);
    return 0;
}

/* Writes DIR/path with the folders above it. */
static void put_file(struct fixture *f, const char *path, const char *text)
{
    char *full = arena_printf(f->a, "%s/%s", f->dir, path);
    FILE *out;

    for (char *slash = strchr(full + strlen(f->dir) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(full, 0700);
        *slash = '/';
    }
    out = fopen(full, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

/* The i-th message as it is printed, with the fixture's folder cut off the file name. */
static const char *message(struct fixture *f, size_t i)
{
    const struct diag_message *m;
    const char *file;

    assert_true(i < diag_count(f->d));
    m = diag_at(f->d, i);
    file = m->at.file ? m->at.file : "";
    if (strncmp(file, f->dir, strlen(f->dir)) == 0)
        file += strlen(f->dir);
    return arena_printf(f->a, "%s:%d:%d: %s: %s", file, m->at.line, m->at.col,
                        diag_severity(m->kind), m->text);
}

static struct profiles *opened(struct fixture *f, const char *user)
{
    struct profiles *p = profiles_open(f->a, user, f->d);

    assert_int_equal(diag_count(f->d), 0);
    return p;
}

static const char *name_of(struct fixture *f, const struct profiles *p, enum profile_kind k,
                           const char *name)
{
    const struct doc_node *doc = profile_find(p, k, name, f->d);

    return doc ? doc_get(doc, "name")->text : NULL;
}

static void builtin_names(void **state)
{
    static const char *const pairs[][2] = {
        {"h100-sxm5-80gb", "h100-sxm5-80gb"},
        {"h100-sxm-80gb", "h100-sxm5-80gb"},
        {"H100", "h100-sxm5-80gb"},
        {"NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"},
        {"nvidia_h100_80gb_hbm3", "h100-sxm5-80gb"},
        {"a100-sxm-80gb", "a100-sxm4-80gb"},
        {"A100-80GB", "a100-sxm4-80gb"},
        {"gb300", "gb300"},
        {"l40s", "l40s"},
        {"rtx3090", "rtx-3090"},
        {"4090", "rtx-4090"},
        {"RTX 4090", "rtx-4090"},
        {"NVIDIA GeForce RTX 3090", "rtx-3090"},
        {"rtx-a6000", "rtx-a6000"},
        {"h200", "h200-sxm-141gb"},
        {"NVIDIA H200", "h200-sxm-141gb"},
        {"b200", "b200-sxm"},
    };
    struct fixture *f = *state;
    const struct profiles *p = opened(f, NULL);

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const char *found = name_of(f, p, PROFILE_GPU, pairs[i][0]);
        assert_non_null(found);
        assert_string_equal(found, pairs[i][1]);
    }
    assert_int_equal(diag_count(f->d), 0);
}

static void builtin_places(void **state)
{
    struct fixture *f = *state;
    const struct profiles *p = opened(f, NULL);
    const struct doc_node *doc = profile_find(p, PROFILE_GPU, "h100", f->d);

    assert_non_null(doc);
    assert_string_equal(doc->at.file, "<builtin>/gpus/h100-sxm5-80gb.yaml");
    assert_int_equal(doc_get(doc, "name")->at.line, 1);
    assert_int_equal(doc_get(doc, "name")->at.col, 7);
    assert_ptr_equal(doc, profile_find(p, PROFILE_GPU, "H100-SXM", f->d));
}

static void unknown_names(void **state)
{
    struct fixture *f = *state;
    const struct profiles *p = opened(f, NULL);
    struct loc at = {"spec.yaml", 3, 8};

    assert_null(profile_find(p, PROFILE_GPU, "nothing", f->d));
    assert_null(profile_find(p, PROFILE_GPU, NULL, f->d));
    assert_null(profile_find(p, PROFILE_GPU, "", f->d));
    assert_null(profile_find(p, PROFILE_MODEL, "h100", f->d));
    assert_false(profile_has(p, PROFILE_GPU, "nothing", f->d));
    assert_int_equal(diag_count(f->d), 0);
    assert_null(profile_require(p, PROFILE_GPU, "h100-sxm-80g", at, f->d));
    assert_string_equal(message(f, 0), "spec.yaml:3:8: error: unknown GPU 'h100-sxm-80g'; did "
                                       "you mean 'h100-sxm-80gb'?");
    assert_null(profile_require(p, PROFILE_GPU, "gh200-of-another-kind", at, f->d));
    assert_string_equal(message(f, 1), "spec.yaml:3:8: error: unknown GPU "
                                       "'gh200-of-another-kind'; known: 'gh200-144gb', "
                                       "'gh200-96gb'");
    assert_null(profile_require(p, PROFILE_GPU, "voodoo2", at, f->d));
    assert_string_equal(message(f, 2), "spec.yaml:3:8: error: unknown GPU 'voodoo2'; 'kvbudget "
                                       "list gpus' shows the known ones");
    assert_int_equal(diag_exit(f->d), 3);
}

static void builtin_list(void **state)
{
    struct fixture *f = *state;
    const struct profiles *p = opened(f, NULL);
    size_t n = 0, size = 0;
    struct profile_entry *list = profile_list(p, PROFILE_GPU, f->a, f->d, &n);

    assert_true(n >= 55);
    for (size_t i = 0; i < n; i++) {
        const char *text = profile_text(p, PROFILE_GPU, list[i].name, f->d, &size);
        assert_string_equal(name_of(f, p, PROFILE_GPU, list[i].name), list[i].name);
        assert_false(list[i].user);
        assert_true(i == 0 || strcmp(list[i - 1].name, list[i].name) < 0);
        assert_non_null(text);
        assert_int_equal(strlen(text), size);
        assert_memory_equal(text, "name: ", 6);
    }
    assert_null(profile_text(p, PROFILE_GPU, "nothing", f->d, &size));
    assert_int_equal(diag_count(f->d), 0);
}

/* Each builtin profile of each kind is readable under each of its keys. */
static void builtin_all(void **state)
{
    struct fixture *f = *state;
    const struct builtin_profiles *b = &builtin_profiles;
    const struct profiles *p = opened(f, NULL);

    for (size_t i = 0; i < b->n_keys; i++) {
        const struct builtin_key *k = &b->keys[i];
        const char *key = (const char *)b->bytes + k->text;
        const char *label = (const char *)b->bytes + b->files[k->file].label;
        const struct doc_node *doc = profile_find(p, (enum profile_kind)k->kind, key, f->d);

        assert_non_null(doc);
        assert_string_equal(doc->at.file, label);
        assert_int_equal(k->kind, b->files[k->file].kind);
        if (i > 0 && b->keys[i - 1].kind == k->kind)
            assert_true(strcmp((const char *)b->bytes + b->keys[i - 1].text, key) < 0);
        else if (i > 0)
            assert_true(b->keys[i - 1].kind < k->kind);
    }
    assert_int_equal(diag_count(f->d), 0);
    for (size_t i = 0; i < b->n_files; i++) {
        assert_true(b->files[i].text + b->files[i].size < b->n_bytes);
        assert_int_equal(b->bytes[b->files[i].text + b->files[i].size], 0);
    }
}

static void user_first(void **state)
{
    struct fixture *f = *state;
    const struct profiles *p;
    const struct doc_node *doc;

    put_file(f, "gpus/card.yaml", "name: my-card\naliases: [mine, H100]\n");
    put_file(f, "models/Some__Model-1B.yaml", "name: Some/Model-1B\n");
    put_file(f, "models/other.txt", "not a profile");
    put_file(f, "models/.hidden.yaml", "name: hidden\n");
    p = opened(f, f->dir);
    assert_string_equal(name_of(f, p, PROFILE_GPU, "my-card"), "my-card");
    assert_string_equal(name_of(f, p, PROFILE_GPU, "MINE"), "my-card");
    assert_string_equal(name_of(f, p, PROFILE_GPU, "card"), "my-card");
    assert_string_equal(name_of(f, p, PROFILE_GPU, "h100"), "my-card");
    assert_string_equal(name_of(f, p, PROFILE_GPU, "h100-sxm"), "h100-sxm5-80gb");
    assert_string_equal(name_of(f, p, PROFILE_MODEL, "some/model-1b"), "Some/Model-1B");
    assert_string_equal(name_of(f, p, PROFILE_MODEL, "model-1B"), "Some/Model-1B");
    assert_false(profile_has(p, PROFILE_MODEL, "hidden", f->d));
    doc = profile_find(p, PROFILE_GPU, "mine", f->d);
    assert_string_equal(doc->at.file, arena_printf(f->a, "%s/gpus/card.yaml", f->dir));
    assert_int_equal(diag_count(f->d), 0);
}

static void user_replaces(void **state)
{
    struct fixture *f = *state;
    const struct profiles *p;
    struct profile_entry *list;
    size_t n = 0, seen = 0, builtin = 0;

    profile_list(opened(f, NULL), PROFILE_GPU, f->a, f->d, &builtin);
    put_file(f, "gpus/x.yaml", "name: H200-SXM-141GB\n");
    put_file(f, "gpus/zz.yaml", "name: zz-top\n");
    p = opened(f, f->dir);
    list = profile_list(p, PROFILE_GPU, f->a, f->d, &n);
    assert_int_equal(n, builtin + 1);
    for (size_t i = 0; i < n; i++) {
        seen += list[i].user;
        assert_string_not_equal(list[i].name, "h200-sxm-141gb");
    }
    assert_int_equal(seen, 2);
    assert_string_equal(list[n - 1].name, "zz-top");
    assert_null(profile_require(p, PROFILE_GPU, "zz-topp", (struct loc){"s", 1, 1}, f->d));
    assert_string_equal(message(f, 0),
                        "s:1:1: error: unknown GPU 'zz-topp'; did you mean 'zz-top'?");
}

/* The folder given comes before the one in the configuration. */
static void user_order(void **state)
{
    struct fixture *f = *state;
    const struct profiles *p;

    put_file(f, "given/gpus/a.yaml", "name: twice\nnotes: given\n");
    put_file(f, "config/kvbudget/profiles/gpus/a.yaml", "name: twice\nnotes: config\n");
    put_file(f, "config/kvbudget/profiles/gpus/b.yaml", "name: once\n");
    put_file(f, "home/.config/kvbudget/profiles/gpus/c.yaml", "name: at-home\n");
    setenv("XDG_CONFIG_HOME", arena_printf(f->a, "%s/config", f->dir), 1);
    p = opened(f, arena_printf(f->a, "%s/given", f->dir));
    assert_string_equal(doc_get(profile_find(p, PROFILE_GPU, "twice", f->d), "notes")->text,
                        "given");
    assert_string_equal(name_of(f, p, PROFILE_GPU, "once"), "once");
    assert_false(profile_has(p, PROFILE_GPU, "at-home", f->d));
    p = opened(f, NULL);
    assert_string_equal(doc_get(profile_find(p, PROFILE_GPU, "twice", f->d), "notes")->text,
                        "config");
    unsetenv("XDG_CONFIG_HOME");
    setenv("HOME", arena_printf(f->a, "%s/home", f->dir), 1);
    p = opened(f, NULL);
    assert_true(profile_has(p, PROFILE_GPU, "at-home", f->d));
    assert_int_equal(diag_count(f->d), 0);
}

static void user_missing_folder(void **state)
{
    struct fixture *f = *state;

    assert_non_null(profiles_open(f->a, arena_printf(f->a, "%s/no", f->dir), f->d));
    assert_string_equal(message(f, 0), "/no:0:0: error: no such folder of profiles");
}

static void user_broken(void **state)
{
    struct fixture *f = *state;
    const struct profiles *p;

    put_file(f, "gpus/bad.yaml", "name: bad-one\nname: again\n");
    put_file(f, "gpus/good.yaml", "name: good\n");
    put_file(f, "gpus/list.yaml", "name: [a]\n");
    put_file(f, "gpus/none.yaml", "");
    put_file(f, "gpus/alias.yaml", "name: x\naliases: {a: b}\n");
    put_file(f, "gpus/alias2.yaml", "name: y\naliases: [[a]]\n");
    p = opened(f, f->dir);
    assert_string_equal(name_of(f, p, PROFILE_GPU, "good"), "good");
    assert_false(diag_failed(f->d));
    assert_int_equal(diag_count(f->d), 5);
    assert_string_equal(message(f, 0), "/gpus/alias.yaml:2:10: warning: profile left out: "
                                       "'aliases' must be a list of texts");
    assert_string_equal(message(f, 1), "/gpus/alias2.yaml:2:11: warning: profile left out: an "
                                       "alias must be a text");
    assert_non_null(strstr(message(f, 2), "/gpus/bad.yaml:2:1: warning: profile left out: "));
    assert_string_equal(message(f, 3), "/gpus/list.yaml:1:7: warning: profile left out: 'name' "
                                       "must be a text");
    assert_string_equal(message(f, 4), "/gpus/none.yaml:0:0: warning: profile left out: an "
                                       "empty profile");
    assert_null(profile_find(p, PROFILE_GPU, "bad-one", f->d));
    assert_false(diag_failed(f->d));
    assert_null(profile_find(p, PROFILE_GPU, "bad", f->d));
    assert_int_equal(diag_exit(f->d), 3);
    assert_null(profile_find(p, PROFILE_GPU, "list", f->d));
    assert_null(profile_find(p, PROFILE_GPU, "none", f->d));
}

static void user_text(void **state)
{
    struct fixture *f = *state;
    const struct profiles *p;
    size_t n = 0;

    put_file(f, "examples/tiny.yaml", "# a comment\nmodel: X\n");
    put_file(f, "schema/report.json", "{\"type\": \"object\"}\n");
    put_file(f, "schema/report.yaml", "name: no\n");
    p = opened(f, f->dir);
    assert_string_equal(profile_text(p, PROFILE_EXAMPLE, "Tiny", f->d, &n),
                        "# a comment\nmodel: X\n");
    assert_int_equal(n, 21);
    assert_string_equal(doc_get(profile_find(p, PROFILE_EXAMPLE, "tiny", f->d), "model")->text,
                        "X");
    assert_string_equal(doc_get(profile_find(p, PROFILE_SCHEMA, "report", f->d), "type")->text,
                        "object");
    assert_false(profile_has(p, PROFILE_SCHEMA, "no", f->d));
    assert_int_equal(diag_count(f->d), 0);
}

/* ---- embedding -------------------------------------------------------------------------- */

static bool embedded(struct fixture *f, char **text)
{
    char *out = arena_printf(f->a, "%s/out.c", f->dir);
    size_t n = 0;

    if (!embed(f->a, f->dir, out, f->d))
        return false;
    return !text || file_read(f->a, out, 1 << 20, f->d, text, &n);
}

static void embed_good(void **state)
{
    struct fixture *f = *state;
    char *text = NULL, *again = NULL;

    put_file(f, "models/b.yaml", "name: Org/M-1\nsources: [paper]\n");
    put_file(f, "models/a.yaml", "name: Two/M-1\nsources: [paper]\n");
    put_file(f, "models/c.yaml", "name: Two/M-2\nsources: [paper]\n");
    put_file(f, "gpus/g.yaml", "name: g\naliases: [G, g 1]\nl2: {value: 1MiB, source: log}\n");
    put_file(f, "examples/e.yaml", "model: x\n");
    put_file(f, "README.md", "not a profile");
    assert_true(embedded(f, &text));
    assert_int_equal(diag_count(f->d), 0);
    /* org/m-1 two/m-1 two/m-2 m-2, but no m-1; g g-1; e */
    assert_non_null(strstr(text, "keys, 7, files, 5,"));
    assert_true(embedded(f, &again));
    assert_string_equal(text, again);
}

static void embed_empty(void **state)
{
    struct fixture *f = *state;
    char *text = NULL;

    assert_true(embedded(f, &text));
    assert_non_null(strstr(text, "keys, 0, files, 0,"));
}

/* One bad file, one message. */
struct bad {
    const char *path, *text, *message;
};

static void embed_refuses(void **state)
{
    static const struct bad cases[] = {
        {"gpus/x.yaml", "name: x\nl2: 1MiB\n",
         "/gpus/x.yaml:2:1: error: 'l2' must be {value: ..., source: ...}"},
        {"gpus/x.yaml", "name: x\nl2: {value: 1MiB, source: \"\"}\n",
         "/gpus/x.yaml:2:1: error: 'l2' must be {value: ..., source: ...}"},
        {"gpus/x.yaml", "name: x\nefficiency:\n  gemm_bf16: 0.7\n",
         "/gpus/x.yaml:3:3: error: 'gemm_bf16' must be {value: ..., source: ...}"},
        {"gpus/x.yaml", "vendor: x\n", "/gpus/x.yaml:1:1: error: a profile without 'name'"},
        {"gpus/x.yaml", "- x\n", "/gpus/x.yaml:1:1: error: a profile must be a map"},
        {"gpus/x.yaml", "", "/gpus/x.yaml:0:0: error: an empty profile"},
        {"models/x.yaml", "name: x\nlayers: 3\n",
         "/models/x.yaml:1:1: error: a profile without 'sources'"},
        {"models/x.yaml", "name: x\nsources: []\n",
         "/models/x.yaml:1:1: error: a profile without 'sources'"},
        {"workloads/x.yaml", "name: x\nprompt: 3\n",
         "/workloads/x.yaml:1:1: error: a profile without 'source'"},
        {"evidence/x.yaml", "name: x\nrows: []\n",
         "/evidence/x.yaml:1:1: error: evidence without 'scheme'"},
        {"evidence/x.yaml", "name: x\nscheme: x\nrows: {}\n",
         "/evidence/x.yaml:3:7: error: 'rows' must be a list"},
        {"evidence/x.yaml",
         "name: x\nscheme: x\nrows:\n"
         "- {model: m, metric: p, higher_is_better: true, setting: {}, value: 1, "
         "confidence: primary}\n",
         "/evidence/x.yaml:4:3: error: a row without 'source'"},
        {"evidence/x.yaml",
         "name: x\nscheme: x\nmemory:\n"
         "- {model: m, metric: p, higher_is_better: true, setting: {}, value: 1, source: s, "
         "confidence: primary, unit: B}\n",
         "/evidence/x.yaml:4:104: error: unknown key 'unit' in a row"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        f->d = diag_new(f->a);
        put_file(f, cases[i].path, cases[i].text);
        assert_false(embedded(f, NULL));
        assert_int_equal(diag_count(f->d), 1);
        assert_string_equal(message(f, 0), cases[i].message);
        assert_int_equal(unlink(arena_printf(f->a, "%s/%s", f->dir, cases[i].path)), 0);
    }
}

static void embed_taken_names(void **state)
{
    struct fixture *f = *state;

    put_file(f, "gpus/a.yaml", "name: a\naliases: [Same]\n");
    put_file(f, "gpus/b.yaml", "name: b\naliases: [other, same]\n");
    put_file(f, "workloads/a.yaml", "name: same\nsource: s\n"); /* another kind: no matter */
    assert_false(embedded(f, NULL));
    assert_int_equal(diag_count(f->d), 1);
    assert_string_equal(message(f, 0),
                        arena_printf(f->a,
                                     "/gpus/b.yaml:2:18: error: the name 'same' is already "
                                     "taken by %s/gpus/a.yaml",
                                     f->dir));
}

static void embed_taken_stem(void **state)
{
    struct fixture *f = *state;

    put_file(f, "measured/a.yaml", "gpu: x\n");
    put_file(f, "measured/a.json", "{}\n");
    assert_false(embedded(f, NULL));
    assert_non_null(strstr(message(f, 0), "the name 'a' is already taken by "));
}

static void embed_program(void **state)
{
    struct fixture *f = *state;
    char program[] = "embed", *out = arena_printf(f->a, "%s/out.c", f->dir);
    char *none = arena_printf(f->a, "%s/none", f->dir);
    char *usage[] = {program, NULL}, *good[] = {program, f->dir, out, NULL};
    char *missing[] = {program, none, out, NULL}, *unwritable[] = {program, f->dir, none, NULL};

    assert_int_equal(embed_main(1, usage), 2);
    assert_int_equal(embed_main(3, good), 0);
    assert_int_equal(embed_main(3, missing), 3);
    assert_int_equal(mkdir(none, 0700), 0);
    assert_int_equal(embed_main(3, unwritable), 7);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(builtin_names),       T(builtin_places), T(unknown_names),     T(builtin_list),
        T(builtin_all),         T(user_first),     T(user_replaces),     T(user_order),
        T(user_missing_folder), T(user_broken),    T(user_text),         T(embed_good),
        T(embed_empty),         T(embed_refuses),  T(embed_taken_names), T(embed_taken_stem),
        T(embed_program),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
