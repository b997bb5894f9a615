/* Reading evidence profiles and finding the row nearest to what is asked. */
#include "planner/plan/evidence.h"

#include <ctype.h>
#include <string.h>

#include "planner/plan/params.h"

/* --- reading ------------------------------------------------------------------------------ */

struct parsed {
    const char *model, *metric, *source, *confidence, *note;
    bool higher_is_better;
    const struct doc_node *setting, *value, *baseline;
};

static const struct field row_fields[] = {
    FIELD_REQUIRED(struct parsed, model, "model", F_TEXT, 0, 0, "the model measured"),
    FIELD_REQUIRED(struct parsed, metric, "metric", F_TEXT, 0, 0, "what was measured"),
    FIELD_REQUIRED(struct parsed, higher_is_better, "higher_is_better", F_BOOL, 0, 0,
                   "false for perplexity and bytes"),
    FIELD_REQUIRED(struct parsed, setting, "setting", F_NODE, 0, 0, "keys of the scheme"),
    FIELD_REQUIRED(struct parsed, value, "value", F_NODE, 0, 0, "as published"),
    FIELD(struct parsed, baseline, "baseline", F_NODE, 0, 0, NULL,
          "the model without the scheme"),
    FIELD_REQUIRED(struct parsed, source, "source", F_TEXT, 0, 0, "paper and table"),
    FIELD(struct parsed, confidence, "confidence", F_TEXT, 0, 0, "unverified",
          "primary, secondary or unverified"),
    FIELD(struct parsed, note, "note", F_TEXT, 0, 0, NULL, "what to know of it"),
};

static bool read_row(struct arena *a, const struct doc_node *n, struct diag *d,
                     struct evidence_row *out)
{
    struct parsed p = {0};

    if (!bind_map(a, n, "evidence", row_fields, sizeof row_fields / sizeof *row_fields, NULL, d,
                  &p))
        return false;
    out->model = p.model;
    out->metric = p.metric;
    out->source = p.source;
    out->confidence = p.confidence;
    out->note = p.note;
    out->higher_is_better = p.higher_is_better;
    out->setting = p.setting;
    out->has_baseline = !doc_is_null(p.baseline);
    return doc_double(p.value, 0, 1e15, d, &out->value) &&
           doc_double(p.baseline, 0, 1e15, d, &out->baseline);
}

struct rows {
    struct evidence_row *v;
    size_t n, cap;
};

static bool read_list(struct arena *a, const struct doc_node *file, enum evidence_kind kind,
                      struct diag *d, struct rows *to)
{
    static const char *const keys[] = {"rows", "contested", "memory"};
    const struct doc_node *list = doc_get(file, keys[kind]), *scheme = doc_get(file, "scheme");
    bool ok = true;

    for (const struct doc_node *n = list ? list->first : NULL; n; n = n->next) {
        struct evidence_row r = {.kind = kind};
        if (!doc_text(scheme, d, &r.scheme) || !read_row(a, n, d, &r)) {
            ok = false;
            continue;
        }
        if (to->n == to->cap) {
            to->cap = to->cap ? 2 * to->cap : 256;
            to->v = arena_grow(a, to->v, to->n, to->cap, sizeof *to->v);
        }
        to->v[to->n++] = r;
    }
    return ok;
}

bool evidence_load(struct arena *a, const struct profiles *p, struct diag *d,
                   struct evidence *out)
{
    struct rows rows = {0};
    size_t n;
    const struct profile_entry *list = profile_list(p, PROFILE_EVIDENCE, a, d, &n);
    bool ok = true;

    for (size_t i = 0; i < n; i++) {
        const struct doc_node *file = profile_find(p, PROFILE_EVIDENCE, list[i].name, d);
        if (!file || !doc_get(file, "scheme")) {
            ok = file ? diag_add(d, DIAG_INPUT, file->at, "evidence without the key 'scheme'")
                      : false;
            continue;
        }
        for (int kind = EVIDENCE_QUALITY; kind <= EVIDENCE_MEMORY; kind++)
            ok = read_list(a, file, (enum evidence_kind)kind, d, &rows) && ok;
    }
    *out = (struct evidence){rows.v, rows.n};
    return ok;
}

/* --- names -------------------------------------------------------------------------------- */

/* Letters and digits agree, case aside. */
static bool same_word(const char *a, const char *b)
{
    for (;; a++, b++) {
        while (*a && !isalnum((unsigned char)*a))
            a++;
        while (*b && !isalnum((unsigned char)*b))
            b++;
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
            return false;
        if (!*a)
            return true;
    }
}

bool evidence_same_model(const struct evidence_row *r, const struct model *m)
{
    const char *slash = m->name ? strrchr(m->name, '/') : NULL;

    return m->name && same_word(r->model, slash ? slash + 1 : m->name);
}

bool evidence_about(const struct evidence_row *r, const struct scheme_use *use)
{
    const struct doc_node *format = doc_get(r->setting, "format");

    if (format && format->kind == DOC_SCALAR)
        return same_word(format->text, use->name);
    return same_word(r->scheme, use->name);
}

/* --- distance ----------------------------------------------------------------------------- */

static double apart(double a, double b)
{
    double most = a > b ? a : b, least = a > b ? b : a;

    return most > 0 ? (most - least) / most : 0;
}

/* One key of a published setting against what is asked. */
static double key_distance(struct arena *a, const struct doc_node *key,
                           const struct scheme_use *use)
{
    const struct field *f = params_field(use->scheme, key->key);
    double asked, published = 0;

    if (!strcmp(key->key, "format"))
        return 0; /* the variant, which evidence_about has compared */
    if (!f)
        return 1;
    if (params_number(use, f, &asked))
        return doc_double(key, 0, 1e15, diag_new(a), &published) ? apart(asked, published) : 1;
    if (key->kind == DOC_SCALAR && params_given(use, f))
        return same_word(key->text, params_value_text(a, use, f)) ? 0 : 1;
    return 1;
}

/* An asked number other than the default, of which the setting says nothing. */
static bool unsaid(const struct evidence_row *r, const struct scheme_use *use,
                   const struct scheme_use *plain, const struct field *f)
{
    double asked, usual;

    for (const struct doc_node *k = r->setting->first; k; k = k->next)
        if (params_field(use->scheme, k->key) == f)
            return false;
    return params_number(use, f, &asked) && params_number(plain, f, &usual) &&
           (asked > usual || asked < usual);
}

double evidence_distance(struct arena *a, const struct evidence_row *r,
                         const struct scheme_use *use)
{
    struct scheme_use plain = params_defaults(a, use);
    double sum = 0;

    for (const struct doc_node *k = r->setting->first; k; k = k->next)
        sum += key_distance(a, k, use);
    for (size_t i = 0; i < use->scheme->nfields; i++)
        sum += unsaid(r, use, &plain, &use->scheme->fields[i]);
    return sum;
}

/* "capacity 128 vs 2048 asked, window 32 not said". */
static const char *setting_text(struct arena *a, const struct evidence_row *r,
                                const struct scheme_use *use)
{
    struct scheme_use plain = params_defaults(a, use);
    const char *s = "";

    for (const struct doc_node *k = r->setting->first; k; k = k->next) {
        const struct field *f = params_field(use->scheme, k->key);
        const char *published = k->kind == DOC_SCALAR ? k->text : "a list";
        if (key_distance(a, k, use) <= 0)
            continue;
        s = arena_printf(a, "%s%s%s %s", s, *s ? ", " : "", k->key, published);
        if (f && params_given(use, f) && k->kind == DOC_SCALAR)
            s = arena_printf(a, "%s vs %s asked", s, params_value_text(a, use, f));
        else
            s = arena_printf(a, "%s, not as asked", s);
    }
    for (size_t i = 0; i < use->scheme->nfields; i++) {
        const struct field *f = &use->scheme->fields[i];
        if (unsaid(r, use, &plain, f))
            s = arena_printf(a, "%s%sasked %s %s not published", s, *s ? ", " : "", f->key,
                             params_value_text(a, use, f));
    }
    return *s ? s : "the asked setting";
}

static const char *how_far(struct arena *a, const struct evidence_row *r,
                           const struct scheme_use *use, const struct model *m)
{
    return arena_printf(a, "%s; %s, %s", setting_text(a, r, use), r->model,
                        evidence_same_model(r, m) ? "this model" : "another model");
}

/* --- the nearest -------------------------------------------------------------------------- */

/* The nearest row of a kind, of one metric (NULL = any). */
static const struct evidence_row *nearest(struct arena *a, const struct evidence *e,
                                          enum evidence_kind kind, const char *metric,
                                          const struct scheme_use *use, const struct model *m)
{
    const struct evidence_row *best = NULL;
    double least = 0;

    for (size_t i = 0; i < e->n; i++) {
        const struct evidence_row *r = &e->rows[i];
        double far;
        if (r->kind != kind || !evidence_about(r, use) ||
            (metric && strcmp(metric, r->metric) != 0))
            continue;
        far = evidence_distance(a, r, use);
        if (best && (far > least || (far >= least && (evidence_same_model(best, m) ||
                                                      !evidence_same_model(r, m)))))
            continue;
        best = r;
        least = far;
    }
    return best;
}

struct evidence_near evidence_nearest(struct arena *a, const struct evidence *e,
                                      const struct scheme_use *use, const struct model *m)
{
    struct evidence_near out = {.row = nearest(a, e, EVIDENCE_QUALITY, NULL, use, m)};

    for (size_t i = 0; i < e->n; i++)
        out.contested +=
            e->rows[i].kind == EVIDENCE_CONTESTED && evidence_about(&e->rows[i], use);
    if (!out.row)
        return out;
    out.distance = evidence_distance(a, out.row, use);
    out.same_model = evidence_same_model(out.row, m);
    out.how_far = how_far(a, out.row, use, m);
    return out;
}

/* --- JSON --------------------------------------------------------------------------------- */

static void setting_json(const struct doc_node *setting, cJSON *to)
{
    for (const struct doc_node *k = setting->first; k; k = k->next) {
        double number;
        uint64_t whole;
        if (k->kind == DOC_LIST) {
            cJSON *list = json_list(to, k->key);
            for (const struct doc_node *e = k->first; e; e = e->next)
                if (e->kind == DOC_SCALAR && unit_parse_u64(e->text, &whole) == UNIT_OK)
                    json_u64(list, NULL, whole);
        } else if (k->kind == DOC_SCALAR && unit_parse_u64(k->text, &whole) == UNIT_OK) {
            json_u64(to, k->key, whole);
        } else if (k->kind == DOC_SCALAR && unit_parse_double(k->text, &number) == UNIT_OK) {
            json_double(to, k->key, number);
        } else if (k->kind == DOC_SCALAR) {
            json_text(to, k->key, k->text);
        }
    }
}

void evidence_row_json(struct arena *a, const struct evidence_row *r,
                       const struct scheme_use *use, const struct model *m, cJSON *to)
{
    static const char *const kinds[] = {"quality", "contested", "memory"};

    json_text(to, "scheme", use->name);
    json_text(to, "kind", kinds[r->kind]);
    json_text(to, "model", r->model);
    json_bool(to, "same_model", evidence_same_model(r, m));
    setting_json(r->setting, json_object(to, "setting"));
    json_text(to, "metric", r->metric);
    json_bool(to, "higher_is_better", r->higher_is_better);
    json_double(to, "value", r->value);
    if (r->has_baseline)
        json_double(to, "baseline", r->baseline);
    json_double(to, "distance", evidence_distance(a, r, use));
    json_text(to, "how_far", how_far(a, r, use, m));
    json_text(to, "source", r->source);
    json_text(to, "confidence", r->confidence);
    json_text(to, "note", r->note);
}

/* The nearest row of every metric of a kind, metrics in the order of the files. */
static void add_metrics(struct arena *a, const struct evidence *e, enum evidence_kind kind,
                        const struct scheme_use *use, const struct model *m, cJSON *list)
{
    for (size_t i = 0; i < e->n; i++) {
        const struct evidence_row *r = &e->rows[i];
        bool seen = r->kind != kind || !evidence_about(r, use);
        for (size_t j = 0; j < i && !seen; j++)
            seen = e->rows[j].kind == kind && evidence_about(&e->rows[j], use) &&
                   !strcmp(e->rows[j].metric, r->metric);
        if (!seen)
            evidence_row_json(a, nearest(a, e, kind, r->metric, use, m), use, m,
                              json_object(list, NULL));
    }
}

void evidence_json(struct arena *a, const struct problem *p, const struct profiles *profiles,
                   cJSON *list)
{
    struct evidence e = {0};

    if (!profiles)
        return;
    (void)!evidence_load(a, profiles, diag_new(a), &e);
    for (uint32_t u = 0; u < p->n_uses; u++) {
        bool twice = u && p->uses[u].name == p->uses[u - 1].name; /* K and V in one format */
        for (int kind = EVIDENCE_QUALITY; kind <= EVIDENCE_MEMORY && !twice; kind++)
            add_metrics(a, &e, (enum evidence_kind)kind, &p->uses[u], &p->model, list);
    }
}
