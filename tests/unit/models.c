/* The model profiles against our own table of counts (tests/data/models.csv) and the family
 * readers against configs restated from the same sources (tests/data/configs.jsonl).
 *
 * Columns of the table: parameters without towers, MTP layers and buffers; active = all that
 * one token touches; matmul = active without what is only looked up (untied input embeddings,
 * learned positions, per-layer embedding tables); kv_* and state in elements. `stated` is what
 * the source in the profile says; where its basis is a safetensors total it counts weights one
 * by one, and the table holds to it exactly in most rows. */
#include "tests/kvmodel.h"

#include <dirent.h>
#include <stdlib.h>

#include "planner/base/unit.h"

#define FOLDER "profiles/models"
#define TABLE "tests/data/models.csv"
#define CONFIGS "tests/data/configs.jsonl"

enum { ROWS_MAX = 400, COLUMNS = 10 };
enum {
    C_ID,
    C_STATED,
    C_BASIS,
    C_PARAMETERS,
    C_ACTIVE,
    C_MATMUL,
    C_FULL,
    C_WINDOWED,
    C_STATE,
    C_SOURCE
};

struct row {
    char *cell[COLUMNS];
    bool seen;
};

struct table {
    struct row rows[ROWS_MAX];
    size_t n;
};

/* One cell; quotes as CSV has them. Returns the start of the next. */
static char *next_cell(char *s, char **cell)
{
    char *to = s;

    *cell = s;
    if (*s != '"') {
        s += strcspn(s, ",");
    } else {
        for (s++; *s && (*s != '"' || s[1] == '"'); s++) {
            s += *s == '"';
            *to++ = *s;
        }
        s += *s == '"';
        *to = 0;
    }
    if (*s == ',')
        *s++ = 0;
    return s;
}

static struct table *load_table(struct kt *t)
{
    struct table *x = ARENA_NEW(t->a, struct table, 1);
    char *text = kt_slurp(t->a, TABLE);

    assert_non_null(text);
    for (char *line = text + strcspn(text, "\n") + 1; *line;) {
        char *end = line + strcspn(line, "\n"), *s = line;
        struct row *r = &x->rows[x->n];

        line = end + (*end == '\n');
        *end = 0;
        assert_true(x->n++ < ROWS_MAX);
        for (int i = 0; i < COLUMNS; i++)
            s = next_cell(s, &r->cell[i]);
        assert_true(*r->cell[C_SOURCE] != 0);
    }
    return x;
}

static struct row *find_row(struct table *x, const char *id)
{
    for (size_t i = 0; i < x->n; i++) {
        if (strcmp(x->rows[i].cell[C_ID], id) == 0)
            return &x->rows[i];
    }
    return NULL;
}

static uint64_t number(const struct row *r, int column)
{
    uint64_t v = 0;

    unit_parse_u64(r->cell[column], &v); /* an empty cell is 0 */
    return v;
}

static void compare(const struct row *r, int column, uint64_t got, const char *what)
{
    if (got != number(r, column))
        fail_msg("%s: %s is %" PRIu64 ", the table says %s", r->cell[C_ID], what, got,
                 r->cell[column]);
}

static void compare_row(const struct row *r, const struct model *m)
{
    struct param_count c = km_count(m);
    struct km_cache k = km_cache(m);

    compare(r, C_PARAMETERS, c.total - m->vision_params, "parameters");
    compare(r, C_ACTIVE, c.active, "active");
    compare(r, C_MATMUL, c.matmul, "matmul");
    compare(r, C_FULL, k.full, "growing cache elements a token");
    compare(r, C_WINDOWED, k.windowed, "windowed cache elements a token");
    compare(r, C_STATE, k.state, "state elements a sequence");
}

static void check_profile(struct kt *t, struct table *x, const char *file)
{
    char *path = arena_printf(t->a, FOLDER "/%s", file), *text = kt_slurp(t->a, path);
    struct doc_node *doc = NULL;
    struct model m;
    struct row *r;
    size_t n = 0;

    assert_non_null(text);
    if (!doc_read_yaml(t->a, path, text, strlen(text), t->d, &doc, 1, &n) ||
        !model_from_inline(t->a, doc, t->d, &m)) {
        diag_print(t->d, 0, true, stderr);
        fail_msg("%s cannot be read", path);
    }
    assert_non_null(m.name);
    assert_non_null(m.sources);
    assert_non_null(m.confidence);
    r = find_row(x, m.name);
    if (!r)
        fail_msg("%s: no row for %s in " TABLE, path, m.name);
    r->seen = true;
    compare_row(r, &m);
    km_round_trip(t, &m);
}

static void test_profiles(void **state)
{
    struct kt *t = *state;
    struct table *x = load_table(t);
    DIR *dir = opendir(FOLDER);
    struct dirent *e;
    size_t files = 0;

    assert_non_null(dir);
    while ((e = readdir(dir)) != NULL) {
        struct kt one = {arena_new(), NULL};

        one.d = diag_new(one.a);
        if (strstr(e->d_name, ".yaml")) {
            check_profile(&one, x, e->d_name);
            files++;
        }
        arena_free(one.a);
    }
    closedir(dir);
    assert_true(files >= 200);
    for (size_t i = 0; i < x->n; i++) {
        if (!x->rows[i].seen)
            fail_msg(TABLE ": no profile for %s", x->rows[i].cell[C_ID]);
    }
}

/* Totals that count weights: most rows match to the parameter. */
static void test_exact_totals(void **state)
{
    struct kt *t = *state;
    struct table *x = load_table(t);
    size_t exact = 0;

    for (size_t i = 0; i < x->n; i++) {
        struct row *r = &x->rows[i];

        exact += strncmp(r->cell[C_BASIS], "safetensors total", 17) == 0 &&
                 number(r, C_STATED) == number(r, C_PARAMETERS);
    }
    assert_true(exact >= 80);
}

static void test_configs(void **state)
{
    struct kt *t = *state;
    struct table *x = load_table(t);
    char *text = kt_slurp(t->a, CONFIGS);
    size_t n = 0;

    assert_non_null(text);
    for (char *line = text; *line; n++) {
        size_t len = strcspn(line, "\n");
        struct doc_node *doc = NULL;
        struct model m;
        struct row *r;

        assert_true(doc_read_json(t->a, CONFIGS, line, len, false, t->d, &doc));
        line += len + (line[len] == '\n');
        r = find_row(x, doc_get(doc, "id")->text);
        assert_non_null(r);
        if (!model_from_config(t->a, doc_get(doc, "config"), r->cell[C_ID], t->d, &m)) {
            diag_print(t->d, 0, true, stderr);
            fail_msg("%s cannot be read", r->cell[C_ID]);
        }
        compare_row(r, &m);
        km_round_trip(t, &m);
    }
    assert_true(n >= 90);
}

/* A folder of real config.json files, one a model, if there is one: each reads or is refused
 * with a reason. */
static void test_real_configs(void **state)
{
    struct kt *t = *state;
    const char *folder = getenv("KVBUDGET_HF_CONFIGS");
    DIR *dir = folder ? opendir(folder) : NULL;
    struct dirent *e;
    size_t n = 0;

    (void)t;
    if (!dir) {
        printf("skipped: KVBUDGET_HF_CONFIGS names no folder of config.json files\n");
        skip();
    }
    while ((e = readdir(dir)) != NULL) {
        struct kt one = {arena_new(), NULL};
        struct doc_node *doc = NULL;
        struct model m;
        char *text;

        one.d = diag_new(one.a);
        text = strstr(e->d_name, ".json")
                   ? kt_slurp(one.a, arena_printf(one.a, "%s/%s", folder, e->d_name))
                   : NULL;
        if (text) {
            assert_true(doc_read_json(one.a, e->d_name, text, strlen(text), true, one.d, &doc));
            if (model_from_config(one.a, doc, e->d_name, one.d, &m))
                km_round_trip(&one, &m);
            else
                kt_diag(one.d, "cannot be modelled", 0);
            n++;
        }
        arena_free(one.a);
    }
    closedir(dir);
    assert_true(n > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_profiles),
        kt_test(test_exact_totals),
        kt_test(test_configs),
        kt_test(test_real_configs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
