/* Reading validation results. */
#include "tui/check_file.h"

#include <dirent.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "planner/base/file.h"
#include "planner/doc/doc.h"

#define CHECK_SCHEMA "kvbudget.validate/1"

/* --- values ----------------------------------------------------------------------------- */

static const char *text_at(const struct doc_node *map, const char *key)
{
    const struct doc_node *n = doc_get(map, key);

    return n && n->kind == DOC_SCALAR && !doc_is_null(n) ? n->text : "";
}

/* Measured values may be negative (a difference); the parser of units knows no signs. */
static double number_at(const struct doc_node *map, const char *key)
{
    const char *text = text_at(map, key);
    bool minus = *text == '-';
    double v;

    if (unit_parse_double(text + minus, &v) != UNIT_OK)
        return NAN;
    return minus ? -v : v;
}

static enum check_verdict verdict_of(const char *text)
{
    static const struct {
        const char *word;
        enum check_verdict kind;
    } words[] = {{"ok", CHECK_OK},     {"pass", CHECK_OK},       {"passed", CHECK_OK},
                 {"fail", CHECK_BAD},  {"failed", CHECK_BAD},    {"outside", CHECK_BAD},
                 {"error", CHECK_BAD}, {"waived", CHECK_WAIVED}, {"skipped", CHECK_WAIVED}};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(text, words[i].word))
            return words[i].kind;
    return CHECK_OTHER;
}

/* A text, or the field of an object that names it. */
static const char *named_at(const struct doc_node *map, const char *key)
{
    const struct doc_node *n = doc_get(map, key);

    return n && n->kind == DOC_MAP ? text_at(n, "name") : text_at(map, key);
}

static struct check_row row_of(const struct doc_node *n)
{
    struct check_row r = {.name = text_at(n, "name"),
                          .level = text_at(n, "level"),
                          .verdict = text_at(n, "verdict"),
                          .reason = text_at(n, "reason"),
                          .unit = text_at(n, "unit"),
                          .predicted = number_at(n, "predicted"),
                          .measured = number_at(n, "measured"),
                          .ratio = number_at(n, "ratio"),
                          .tolerance = number_at(n, "tolerance")};

    r.kind = verdict_of(r.verdict);
    if (!isfinite(r.ratio) && r.predicted > 0)
        r.ratio = r.measured / r.predicted;
    return r;
}

/* The name without the spec that all of them begin with. */
static const char *without(const char *name, const char *spec)
{
    size_t n = strlen(spec);

    return n && !strncmp(name, spec, n) && !strncmp(name + n, ": ", 2) ? name + n + 2 : name;
}

/* --- the file --------------------------------------------------------------------------- */

bool check_read(struct arena *a, const char *path, struct diag *d, struct check_file *out)
{
    const struct doc_node *list, *specs;
    const char *spec = "";
    struct doc_node *doc = NULL;
    char *text = NULL;
    size_t n = 0;

    *out = (struct check_file){.path = path, .device = "", .driver = "", .date = ""};
    if (!file_read(a, path, DOC_FILE_MAX, d, &text, &n) ||
        !doc_read_json(a, path, text, n, true, d, &doc))
        return false;
    if (strcmp(text_at(doc, "schema"), CHECK_SCHEMA) != 0)
        return diag_add(d, DIAG_INPUT, doc->at, "the schema is '%s', expected '%s'",
                        text_at(doc, "schema"), CHECK_SCHEMA);
    out->device = named_at(doc, "device");
    if (*text_at(doc, "device_name"))
        out->device = arena_printf(a, "%s (%s)", text_at(doc, "device_name"), out->device);
    out->driver = text_at(doc, "driver");
    out->date = text_at(doc, "date");
    specs = doc_get(doc, "specs");
    if (specs && specs->n == 1 && specs->first->kind == DOC_MAP)
        spec = text_at(specs->first, "name");
    list = doc_get(doc, "checks");
    out->rows = ARENA_NEW(a, struct check_row, (list ? list->n : 0) + 1);
    for (const struct doc_node *c = list ? list->first : NULL; c; c = c->next) {
        struct check_row *r = &out->rows[out->n];
        if (c->kind != DOC_MAP)
            continue;
        *r = row_of(c);
        r->name = without(r->name, spec);
        out->n++;
        out->n_bad += r->kind == CHECK_BAD;
        out->n_waived += r->kind == CHECK_WAIVED;
    }
    return true;
}

/* --- the newest ------------------------------------------------------------------------- */

static bool is_result(const char *name)
{
    size_t n = strlen(name);

    return !strncmp(name, "validate", 8) && n >= 13 && !strcmp(name + n - 5, ".json");
}

const char *check_newest(struct arena *a, const char *folder)
{
    const char *best = NULL;
    struct timespec best_at = {0};
    struct dirent *e;
    DIR *dir = opendir(folder);

    while (dir && (e = readdir(dir)) != NULL) {
        const char *path;
        struct stat st;
        if (!is_result(e->d_name))
            continue;
        path = arena_printf(a, "%s/%s", folder, e->d_name);
        if (stat(path, &st) || !S_ISREG(st.st_mode))
            continue;
        if (best && (st.st_mtim.tv_sec < best_at.tv_sec ||
                     (st.st_mtim.tv_sec == best_at.tv_sec &&
                      (st.st_mtim.tv_nsec < best_at.tv_nsec ||
                       (st.st_mtim.tv_nsec == best_at.tv_nsec && strcmp(path, best) < 0)))))
            continue;
        best = path;
        best_at = st.st_mtim;
    }
    if (dir)
        closedir(dir);
    return best;
}
