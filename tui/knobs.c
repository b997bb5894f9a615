/* Which knobs there are, what they show, and setting them. */
#include "tui/knobs.h"

#include <string.h>

#include "planner/base/ck.h"
#include "planner/doc/emit.h"
#include "planner/plan/params.h"
#include "tui/knobs_in.h"
#include "tui/session_in.h"

static const char *const scheme_paths[] = {"cache.format", "cache.k", "cache.v",
                                           "cache.sharing", "cache.eviction"};
enum { N_SCHEME_PATHS = sizeof scheme_paths / sizeof *scheme_paths };

static const char *const switch_words[] = {"false", "true", NULL};

bool knob_is(const struct knob *k, const char *path)
{
    return !strcmp(k->path, path);
}

/* --- schemes -------------------------------------------------------------------------------
 */

bool knob_axis(const struct knob *k, enum scheme_axis *out)
{
    static const enum scheme_axis axes[N_SCHEME_PATHS] = {
        AXIS_STORAGE, AXIS_STORAGE, AXIS_STORAGE, AXIS_SHARING, AXIS_RETENTION};

    for (size_t i = 0; i < N_SCHEME_PATHS; i++) {
        size_t n = strlen(scheme_paths[i]);
        if (!strncmp(k->path, scheme_paths[i], n) && (!k->path[n] || k->path[n] == '.')) {
            *out = axes[i];
            return true;
        }
    }
    return false;
}

const struct scheme_use *knob_use(const struct session *s, const char *path)
{
    struct knob k = {.path = path};
    enum scheme_axis axis;
    unsigned side = !strcmp(path, "cache.k") ? STORE_K : !strcmp(path, "cache.v") ? STORE_V : 0;

    if (!s->planned || !knob_axis(&k, &axis))
        return NULL;
    for (uint32_t i = 0; i < s->problem.n_uses; i++) {
        const struct scheme_use *u = &s->problem.uses[i];
        if (u->scheme->axis == axis && (!side || (u->sides & side)))
            return u;
    }
    return NULL;
}

const char *knob_parent(struct arena *a, const struct knob *k)
{
    const char *dot = strrchr(k->path, '.');

    return dot ? arena_strndup(a, k->path, (size_t)(dot - k->path)) : "";
}

static enum knob_kind kind_of(const struct field *f)
{
    switch (f->type) {
    case F_BOOL:
    case F_CHOICE: return KNOB_CHOICE;
    case F_U64: return KNOB_WHOLE;
    case F_TOKENS: return KNOB_TOKENS;
    case F_BYTES: return KNOB_BYTES;
    case F_NUMBER: return f->max > 0 && f->max <= 1 ? KNOB_SHARE : KNOB_TEXT;
    case F_RATE:
    case F_FLOPS:
    case F_SECONDS:
    case F_TEXT:
    case F_U64_LIST:
    case F_NODE: return KNOB_TEXT;
    }
    return KNOB_TEXT;
}

static struct knob parameter(struct arena *a, const char *path, const struct field *f)
{
    return (struct knob){.name = arena_printf(a, "%s.%s", path + strlen("cache."), f->key),
                         .label = arena_printf(a, "  %s", f->key),
                         .group = strncmp(path, "cache.s", 7) && strncmp(path, "cache.e", 7)
                                      ? "Formats"
                                      : "Cache schemes",
                         .path = arena_printf(a, "%s.%s", path, f->key),
                         .kind = kind_of(f),
                         .help = f->help,
                         .choices = f->type == F_BOOL ? switch_words : f->choices,
                         .field = f};
}

/* --- the list ------------------------------------------------------------------------------
 */

static bool listed(const char *words, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = words; *p;) {
        size_t len = strcspn(p, " ");
        if (len == n && !memcmp(p, word, n))
            return true;
        p += len + strspn(p + len, " ");
    }
    return false;
}

static bool has_experts(const struct session *s)
{
    for (uint32_t i = 0; i < s->problem.model.n_layers; i++)
        if (s->problem.layout.layers[i].ffn.experts)
            return true;
    return false;
}

/* A knob that is set is always shown: it may be what is wrong. */
static bool matters(const struct session *s, const struct knob *k)
{
    if (session_get(s, k->path))
        return true;
    if (!s->planned)
        return !k->engines;
    if (k->engines && !listed(k->engines, s->problem.engine->name))
        return false;
    if (knob_is(k, "parallel.ep"))
        return has_experts(s);
    if (knob_is(k, "hardware.host_memory"))
        return s->problem.offload > 0;
    return true;
}

static void add_parameters(const struct session *s, struct arena *a, const char *path,
                           struct knob_list *out)
{
    const struct scheme_use *u = session_get(s, path) ? knob_use(s, path) : NULL;

    for (size_t i = 0; u && i < u->scheme->nfields; i++)
        out->v[out->n++] = parameter(a, path, &u->scheme->fields[i]);
}

static size_t parameters_at_most(const struct session *s)
{
    size_t n = 0;

    for (size_t i = 0; i < N_SCHEME_PATHS; i++) {
        const struct scheme_use *u = knob_use(s, scheme_paths[i]);
        n += u ? u->scheme->nfields : 0;
    }
    return n;
}

void knobs_shown(const struct session *s, struct arena *a, struct knob_list *out)
{
    size_t n = 0;

    while (knob_row(n))
        n++;
    out->v = ARENA_NEW(a, struct knob, n + parameters_at_most(s));
    out->n = 0;
    for (size_t i = 0; i < n; i++) {
        const struct knob *k = knob_row(i);
        enum scheme_axis axis;
        if (!matters(s, k))
            continue;
        out->v[out->n++] = *k;
        if (knob_axis(k, &axis))
            add_parameters(s, a, k->path, out);
    }
}

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a == '-' ? '_' : *a) != (*b == '-' ? '_' : *b))
            return false;
    return *a == *b;
}

bool knob_find(const struct session *s, struct arena *a, const char *name, struct knob *out)
{
    struct knob_list list;

    for (size_t i = 0; knob_row(i); i++) {
        *out = *knob_row(i);
        if (same_name(out->name, name) || same_name(out->path, name))
            return true;
    }
    knobs_shown(s, a, &list);
    for (size_t i = 0; i < list.n; i++) {
        *out = list.v[i];
        if (out->field && (same_name(out->name, name) || same_name(out->path, name) ||
                           same_name(out->field->key, name)))
            return true;
    }
    return false;
}

/* --- values --------------------------------------------------------------------------------
 */

struct setting {
    const char *path;
    size_t offset; /* in struct problem */
};

#define SET(key) "engine." #key, offsetof(struct problem, settings.key)
static const struct setting settings[] = {
    {SET(max_model_len)},
    {SET(max_seqs)},
    {SET(max_batched_tokens)},
    {SET(n_batch)},
    {SET(n_ubatch)},
    {SET(n_seq)},
    {"engine.block_tokens", offsetof(struct problem, block_tokens)},
    {"workload.prompt", offsetof(struct problem, workload.prompt)},
    {"workload.output", offsetof(struct problem, workload.output)},
    {"workload.shared_prefix", offsetof(struct problem, workload.shared_prefix)},
};
static const struct setting degrees[] = {
    {"hardware.count", offsetof(struct problem, gpus)},
    {"parallel.tp", offsetof(struct problem, parallel.tp)},
    {"parallel.pp", offsetof(struct problem, parallel.pp)},
    {"parallel.dp", offsetof(struct problem, parallel.dp)},
    {"parallel.ep", offsetof(struct problem, parallel.ep)},
    {"parallel.cp", offsetof(struct problem, parallel.cp)},
};
static const struct setting switches[] = {
    {SET(cuda_graphs)},
    {SET(kv_unified)},
    {SET(flash_attn)},
};
#undef SET

static const void *member(const struct session *s, const struct knob *k,
                          const struct setting *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (knob_is(k, v[i].path))
            return (const char *)&s->problem + v[i].offset;
    return NULL;
}
#define MEMBER(s, k, v) member((s), (k), (v), sizeof(v) / sizeof *(v))

static const char *number(struct arena *a, const struct knob *k, double v)
{
    return v > 0 || knob_is(k, "workload.shared_prefix") ? knob_write(a, k, v) : "";
}

static const char *scheme_name(const struct session *s, const struct knob *k)
{
    const struct scheme_use *u = knob_use(s, k->path);
    bool alone = knob_is(k, "cache.k") || knob_is(k, "cache.v");

    if (alone && s->problem.n_uses && u && u->sides == (STORE_K | STORE_V))
        return "";
    return u ? u->name : "none";
}

/* What the planner took where the spec says nothing. */
static const char *assumed(const struct session *s, struct arena *a, const struct knob *k)
{
    const struct problem *p = &s->problem;
    enum scheme_axis axis;
    const void *m;

    if (!s->planned)
        return "";
    if (k->field)
        return params_value_text(a, knob_use(s, knob_parent(a, k)), k->field);
    if (knob_axis(k, &axis))
        return scheme_name(s, k);
    if ((m = MEMBER(s, k, settings)) != NULL)
        return number(a, k, (double)*(const uint64_t *)m);
    if ((m = MEMBER(s, k, degrees)) != NULL)
        return number(a, k, *(const uint32_t *)m);
    if ((m = MEMBER(s, k, switches)) != NULL)
        return *(const uint64_t *)m ? switch_words[*(const uint64_t *)m - 1] : "";
    if (knob_is(k, "engine.memory_fraction"))
        return number(a, k, p->settings.memory_fraction > 0 ? p->settings.memory_fraction : 1);
    if (knob_is(k, "engine.name"))
        return p->engine->name;
    if (knob_is(k, "workload.batch"))
        return "auto";
    if (knob_is(k, "weights.format"))
        return p->gemm_format ? p->gemm_format->name : "";
    return knob_is(k, "cache.offload") || knob_is(k, "weights.offload_layers") ? "0" : "";
}

/* "engine.max_seqs is not given: 1024, ...": what follows the colon. */
static const char *note_of(const struct session *s, const struct knob *k)
{
    static const char phrase[] = "is not given";
    const char *path = strncmp(k->path, "parallel.", 9) ? k->path : "parallel";
    size_t n = strlen(path);

    for (size_t i = 0; s->planned && i < diag_count(s->plan_diag); i++) {
        const char *text = diag_at(s->plan_diag, i)->text;
        const char *said = strncmp(text, path, n) ? NULL : strstr(text, phrase);
        if (said && text[n] == ' ' && said[strlen(phrase)] == ':')
            return said + strlen(phrase) + 2;
    }
    return "the default";
}

static bool same_place(struct loc a, struct loc b)
{
    return a.line == b.line && a.col == b.col;
}

/* The message whose place is that of the value, or of the map around it. */
static const char *error_of(const struct session *s, const struct doc_node *n)
{
    const struct doc_node *inner = doc_get(n, "scheme");

    for (size_t i = 0; n && i < diag_count(s->diag); i++) {
        const struct diag_message *m = diag_at(s->diag, i);
        if (m->kind >= DIAG_USAGE &&
            (same_place(m->at, n->at) || (inner && same_place(m->at, inner->at))))
            return m->text;
    }
    return NULL;
}

/* Whether a place is that of a value of the spec, not of the spec as a whole. */
static bool is_value(const struct doc_node *n, struct loc at)
{
    if (n->kind == DOC_SCALAR)
        return same_place(n->at, at);
    for (const struct doc_node *c = n->first; c; c = c->next)
        if (is_value(c, at))
            return true;
    return false;
}

/* A message with no place of its own is about what was edited last. */
static const char *error_of_edit(const struct session *s, const struct knob *k)
{
    if (strcmp(s->edited, k->path) != 0)
        return NULL;
    for (size_t i = 0; i < diag_count(s->diag); i++)
        if (diag_at(s->diag, i)->kind >= DIAG_USAGE)
            return is_value(s->doc, diag_at(s->diag, i)->at) ? NULL : diag_at(s->diag, i)->text;
    return NULL;
}

static const char *given_text(struct arena *a, const struct doc_node *n)
{
    const struct doc_node *scheme = doc_get(n, "scheme"), *map = doc_get(n, "map"),
                          *base = doc_get(n, "config");

    if (n->kind == DOC_SCALAR)
        return n->text;
    base = base ? base : doc_get(n, "profile");
    if (scheme && scheme->kind == DOC_SCALAR)
        return scheme->text;
    if (map)
        return "map";
    if (base && base->kind == DOC_SCALAR)
        return arena_printf(a, "%s, changed", base->text);
    return n->kind == DOC_LIST ? "[...]" : "{...}";
}

void knob_value(const struct session *s, struct arena *a, const struct knob *k,
                struct knob_value *out)
{
    const struct doc_node *n = doc_path(s->doc, k->path);

    *out = (struct knob_value){.given = n && (!doc_is_null(n) || n->kind != DOC_SCALAR)};
    out->text = out->given ? given_text(a, n) : assumed(s, a, k);
    if (!out->text)
        out->text = "";
    if (!out->given)
        out->note = note_of(s, k);
    if (!s->ok)
        out->error = error_of(s, n);
    if (!s->ok && !out->error)
        out->error = error_of_edit(s, k);
}

/* --- setting -------------------------------------------------------------------------------
 */

enum { EDITS_MAX = 24 };
struct edits {
    struct arena *a;
    struct session_edit v[EDITS_MAX];
    size_t n;
};

static void add(struct edits *e, const char *path, const char *value)
{
    if (e->n < EDITS_MAX)
        e->v[e->n++] = (struct session_edit){path, value};
}

/* Text as YAML: a map or list as it is, anything else as one word. */
static const char *as_yaml(struct arena *a, const char *text)
{
    return text[0] == '{' || text[0] == '[' ? text : doc_emit_scalar(a, text);
}

static bool takes_away(const char *text)
{
    return !*text || !strcmp(text, "default");
}

static uint64_t degree(const struct session *s, const char *path, uint64_t fallback)
{
    const char *text = session_get(s, path);
    uint64_t v = fallback;

    if (text && *text && unit_parse_u64(text, &v) != UNIT_OK)
        return fallback;
    return v ? v : 1;
}

/* GPUs of one replica, as the spec has it; 0: it does not say. */
static uint64_t replica(const struct session *s)
{
    if (!doc_path(s->doc, "parallel.tp") && !doc_path(s->doc, "parallel.pp") &&
        !doc_path(s->doc, "parallel.cp") && !doc_path(s->doc, "parallel.dp"))
        return 0;
    return degree(s, "parallel.tp", 1) * degree(s, "parallel.pp", 1) *
           degree(s, "parallel.cp", 1);
}

/* Another number of GPUs of a divided model means other replicas. */
static void edit_count(const struct session *s, struct edits *e, const char *text)
{
    uint64_t gpus, each = replica(s);

    if (unit_parse_u64(text, &gpus) == UNIT_OK && each && gpus && gpus % each == 0)
        add(e, "parallel.dp",
            gpus == each ? NULL
                         : arena_printf(e->a, "%llu", (unsigned long long)(gpus / each)));
}

/* A degree that needs more GPUs than there are means more GPUs. */
static void edit_degree(const struct session *s, struct edits *e, const struct knob *k,
                        const char *text)
{
    static const char *const paths[] = {"parallel.tp", "parallel.pp", "parallel.cp",
                                        "parallel.dp"};
    uint64_t product = 1, v, have = degree(s, "hardware.count", 0);
    struct ck ck = {0};

    if (!session_get(s, "hardware.count") || knob_is(k, "parallel.ep"))
        return;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        v = degree(s, paths[i], 1);
        if (knob_is(k, paths[i]) && unit_parse_u64(text, &v) != UNIT_OK)
            return;
        product = ck_mul(&ck, product, v);
    }
    if (!ck.over && product > have)
        add(e, "hardware.count", arena_printf(e->a, "%llu", (unsigned long long)product));
}

/* Settings that only the engine before heeded go with it. */
static void edit_engine(struct edits *e, const char *name)
{
    for (size_t i = 0; knob_row(i); i++) {
        const struct knob *k = knob_row(i);
        if (k->engines && (knob_is(k, "engine.version") || !listed(k->engines, name)))
            add(e, k->path, NULL);
    }
}

/* A scheme by name gets the parameters it cannot do without, as `compare` takes them. */
static const char *scheme_value(struct arena *a, enum scheme_axis axis, const char *text)
{
    const struct scheme *x = scheme_find(axis, text, NULL);

    if (text[0] == '{' || !x || !x->compare || axis == AXIS_STORAGE)
        return as_yaml(a, text);
    return arena_printf(a, "{scheme: %s, %s", text, x->compare + 1);
}

/* A parameter of a scheme that is named without a map needs the map first. */
static void edit_parameter(const struct session *s, struct edits *e, const struct knob *k)
{
    const char *parent = knob_parent(e->a, k);
    const struct doc_node *n = doc_path(s->doc, parent);

    if (n && n->kind == DOC_SCALAR)
        add(e, parent, arena_printf(e->a, "{scheme: %s}", doc_emit_scalar(e->a, n->text)));
}

static void gather(const struct session *s, struct edits *e, const struct knob *k,
                   const char *text)
{
    bool away = takes_away(text);
    enum scheme_axis axis;
    bool scheme = !k->field && knob_axis(k, &axis);

    if (k->field && !away)
        edit_parameter(s, e, k);
    if (scheme && !away && axis != AXIS_STORAGE && !strcmp(text, "none"))
        away = true;
    if (knob_is(k, "workload.batch") && !strcmp(text, "auto"))
        away = true;
    if (knob_is(k, "cache.format") && !away) {
        add(e, "cache.k", NULL);
        add(e, "cache.v", NULL);
    }
    if (knob_is(k, "engine.name"))
        edit_engine(e, away ? "ideal" : text);
    if (knob_is(k, "hardware.count") && !away)
        edit_count(s, e, text);
    if (!strncmp(k->path, "parallel.", 9) && !away)
        edit_degree(s, e, k, text);
    add(e, k->path,
        away     ? NULL
        : scheme ? scheme_value(e->a, axis, text)
                 : as_yaml(e->a, text));
}

bool knob_put(struct session *s, const struct knob *k, const char *text, const char **why)
{
    struct edits e = {.a = arena_new()};
    bool ok;

    text += strspn(text, " ");
    gather(s, &e, k, arena_strdup(e.a, text));
    ok = session_apply(s, e.v, e.n, why);
    arena_free(e.a);
    return ok;
}

static bool unknown(struct session *s, struct arena *a, const char *name, const char **why)
{
    struct knob_items all;
    const char *near;

    knob_names(s, a, &all);
    near = doc_nearest(name, all.items, all.n);
    return session_refuse(s, why, "there is no knob '%s'%s%s%s", name,
                          near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

bool knob_set(struct session *s, const char *name, const char *text, const char **why)
{
    struct arena *a = arena_new();
    struct knob k;
    bool ok;

    if (knob_find(s, a, name, &k))
        ok = knob_put(s, &k, text, why);
    else if (strchr(name, '.'))
        ok = session_set(s, name, takes_away(text) ? NULL : text, why);
    else
        ok = unknown(s, a, name, why);
    arena_free(a);
    return ok;
}
