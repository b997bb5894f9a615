/* Reading residuals, and bands from them. */
#include "planner/plan/band.h"

#include <string.h>

#include "planner/doc/bind.h"

/* --- reading --------------------------------------------------------------------------------
 */

static const struct field spread_fields[] = {
    FIELD_REQUIRED(struct band_spread, starts, "starts", F_U64, 1, 1e6, "how many"),
    FIELD_REQUIRED(struct band_spread, least, "least", F_NUMBER, -1e6, 1e6, "smallest"),
    FIELD_REQUIRED(struct band_spread, q05, "q05", F_NUMBER, -1e6, 1e6, "5 % quantile"),
    FIELD_REQUIRED(struct band_spread, median, "median", F_NUMBER, -1e6, 1e6, "middle"),
    FIELD_REQUIRED(struct band_spread, q95, "q95", F_NUMBER, -1e6, 1e6, "95 % quantile"),
    FIELD_REQUIRED(struct band_spread, most, "most", F_NUMBER, -1e6, 1e6, "largest"),
};

struct parsed_figure {
    const char *figure;
    uint64_t models;
    const struct doc_node *fit, *score;
};
static const struct field figure_fields[] = {
    FIELD_REQUIRED(struct parsed_figure, figure, "figure", F_TEXT, 0, 0, "path in the report"),
    FIELD_REQUIRED(struct parsed_figure, models, "models", F_U64, 1, 1e6, "different ones"),
    FIELD(struct parsed_figure, fit, "fit", F_NODE, 0, 0, NULL, "starts used for fitting"),
    FIELD(struct parsed_figure, score, "score", F_NODE, 0, 0, NULL, "starts not used"),
};

struct parsed_range {
    const char *words, *from, *before;
    uint64_t starts, pool_of;
    const struct doc_node *versions, *gpus, *left_out, *figures;
};
static const char *const pool_words[] = {"planned", "usable", NULL};
static const struct field range_fields[] = {
    FIELD_REQUIRED(struct parsed_range, words, "words", F_TEXT, 0, 0, "the range in words"),
    FIELD(struct parsed_range, from, "from", F_TEXT, 0, 0, NULL, "first version"),
    FIELD(struct parsed_range, before, "before", F_TEXT, 0, 0, NULL, "first one past it"),
    FIELD_REQUIRED(struct parsed_range, starts, "starts", F_U64, 0, 1e6, "measured"),
    FIELD(struct parsed_range, versions, "versions", F_NODE, 0, 0, NULL, "that were measured"),
    FIELD(struct parsed_range, gpus, "gpus", F_NODE, 0, 0, NULL, "that were measured"),
    FIELD_CHOICE(struct parsed_range, pool_of, "pool_of", pool_words, "planned",
                 "what the pool's residual is relative to"),
    FIELD(struct parsed_range, left_out, "left_out", F_NODE, 0, 0, NULL, "starts, and why"),
    FIELD_REQUIRED(struct parsed_range, figures, "figures", F_NODE, 0, 0, "the residuals"),
};

#define COUNT(table) (sizeof(table) / sizeof *(table))

static bool read_spread(struct arena *a, const struct doc_node *n, struct diag *d,
                        struct band_spread *out)
{
    *out = (struct band_spread){0};
    return !n || bind_map(a, n, "residuals", spread_fields, COUNT(spread_fields), NULL, d, out);
}

static bool read_figure(struct arena *a, const struct doc_node *n, struct diag *d,
                        struct band_figure *out)
{
    struct parsed_figure p = {0};

    if (!bind_map(a, n, "figure", figure_fields, COUNT(figure_fields), NULL, d, &p))
        return false;
    out->path = p.figure;
    out->models = p.models;
    return read_spread(a, p.fit, d, &out->fit) && read_spread(a, p.score, d, &out->score);
}

/* Whether `version` lies in the range; a range without ends holds all. */
static bool read_ends(const struct parsed_range *r, const struct doc_node *n,
                      const char *version, struct diag *d, bool *inside)
{
    uint32_t from = 0, before = UINT32_MAX, v = 0;

    *inside = !r->from && !r->before;
    if (*inside)
        return true;
    if ((r->from && !engine_version(r->from, n->at, d, &from)) ||
        (r->before && !engine_version(r->before, n->at, d, &before)) ||
        !engine_version(version, n->at, d, &v))
        return false;
    *inside = v >= from && v < before;
    return true;
}

static bool read_range(struct arena *a, const struct doc_node *n, const char *version,
                       struct diag *d, struct band_range *out, bool *inside)
{
    struct parsed_range p = {0};

    *inside = false;
    if (!bind_map(a, n, "range", range_fields, COUNT(range_fields), NULL, d, &p) ||
        !read_ends(&p, n, version, d, inside))
        return false;
    out->words = p.words;
    out->starts = p.starts;
    out->left_out = p.left_out ? p.left_out->n : 0;
    out->gpus = p.gpus;
    out->of_usable = p.pool_of == 1;
    out->n = 0;
    for (const struct doc_node *f = *inside ? p.figures->first : NULL; f; f = f->next) {
        if (out->n == BAND_FIGURES)
            return diag_add(d, DIAG_INPUT, f->at, "more than %d figures", BAND_FIGURES);
        if (!read_figure(a, f, d, &out->figures[out->n++]))
            return false;
    }
    return true;
}

bool band_find(struct arena *a, const struct profiles *profiles, const char *engine,
               const char *version, struct diag *d, struct band_range *out)
{
    const struct doc_node *doc = profile_find(profiles, PROFILE_ENGINE, engine, d),
                          *ranges = doc_get(doc, "ranges");
    bool inside = false;

    *out = (struct band_range){.engine = engine};
    for (const struct doc_node *n = ranges ? ranges->first : NULL; n; n = n->next) {
        if (!read_range(a, n, version, d, out, &inside))
            return false;
        if (inside)
            return true;
    }
    return false;
}

/* --- the rule -------------------------------------------------------------------------------
 */

static double least_of(double a, double b)
{
    return a < b ? a : b;
}

static double most_of(double a, double b)
{
    return a > b ? a : b;
}

bool band_relative(const struct band_figure *f, double *low, double *high, double *stretch)
{
    const struct band_spread *const uses[] = {&f->fit, &f->score};
    bool quantiles = f->models >= BAND_QUANTILE_MODELS;

    *low = *high = *stretch = 0;
    if (f->models < 2)
        return false;
    for (size_t i = 0; i < COUNT(uses); i++) {
        if (!uses[i]->starts)
            continue;
        *low = least_of(*low, quantiles ? uses[i]->q05 : uses[i]->least);
        *high = most_of(*high, quantiles ? uses[i]->q95 : uses[i]->most);
    }
    if (quantiles)
        return true;
    *stretch = 0.9 * ((double)f->models + 1) / ((double)f->models - 1);
    *stretch = most_of(*stretch, 1);
    *low *= *stretch;
    *high *= *stretch;
    return true;
}

/* --- of a plan ------------------------------------------------------------------------------
 */

struct banding {
    const struct problem *p;
    const struct plan *plan;
    struct band_range range;
    bool known;        /* there are residuals */
    const char *none;  /* what is said where there are none */
    bool pool_known;   /* the pool has a band: */
    double pool[2];    /* its ends, bytes */
    const char *basis; /* of the pool */
    uint64_t pool_starts;
};

static const struct band_figure *figure_of(const struct banding *b, const char *path)
{
    for (size_t i = 0; b->known && i < b->range.n; i++)
        if (!strcmp(b->range.figures[i].path, path))
            return &b->range.figures[i];
    return NULL;
}

static const char *basis_text(const struct banding *b, const struct band_figure *f,
                              double stretch, const char *then)
{
    struct arena *a = b->p->arena;
    uint64_t starts = f->fit.starts + f->score.starts;
    const char *how = stretch > 0
                          ? arena_printf(a, "least to most residual times %.2f", stretch)
                          : "5 to 95 % of the residuals";

    return arena_printf(a, "%llu starts of %llu models, %s %s, %llu not used for fitting; %s%s",
                        (unsigned long long)starts, (unsigned long long)f->models,
                        b->range.engine, b->range.words, (unsigned long long)f->score.starts,
                        how, then);
}

static const char *too_few(const struct banding *b, const struct band_figure *f)
{
    uint64_t starts = f->fit.starts + f->score.starts;

    return arena_printf(b->p->arena, "too few for a band: %llu start%s of one model, %s %s",
                        (unsigned long long)starts, starts == 1 ? "" : "s", b->range.engine,
                        b->range.words);
}

static void add_entry(cJSON *to, const char *key, uint64_t starts, const char *basis)
{
    cJSON *o = json_object(to, key);

    json_u64(o, "measurements", starts);
    json_text(o, "basis", basis);
}

static void add_ends(cJSON *to, const char *key, const double ends[2], uint64_t starts,
                     const char *basis)
{
    cJSON *o = json_object(to, key);
    void (*add)(cJSON *, const char *, double) =
        strcmp(key, "max_concurrency") ? json_whole : json_double;

    add(o, "low", ends[0]);
    add(o, "high", ends[1]);
    json_u64(o, "measurements", starts);
    json_text(o, "basis", basis);
}

/* Whole ends that hold the band: down and up, never below 0. */
static void whole_ends(double ends[2])
{
    for (int i = 0; i < 2; i++) {
        double v = ends[i] > 0 && ends[i] < 1.8e19 ? ends[i] : 0;
        double whole = (double)(uint64_t)v;
        ends[i] = i && whole < v ? whole + 1 : whole;
    }
}

struct term {
    const char *key;
    uint64_t planned, given; /* UINT64_MAX = it is not handed in */
};

static void add_term(const struct banding *b, const struct term *t, cJSON *to)
{
    const struct band_figure *f =
        figure_of(b, arena_printf(b->p->arena, "memory.per_gpu.%s", t->key));
    double low, high, stretch, ends[2] = {(double)t->planned, (double)t->planned};

    if (t->given != UINT64_MAX) {
        add_ends(to, t->key, ends, 0, "handed in");
        return;
    }
    if (!f) {
        if (t->planned)
            add_entry(to, t->key, 0, b->none);
        return;
    }
    if (!band_relative(f, &low, &high, &stretch)) {
        add_entry(to, t->key, f->fit.starts + f->score.starts, too_few(b, f));
        return;
    }
    ends[0] *= 1 + low;
    ends[1] *= 1 + high;
    whole_ends(ends);
    add_ends(to, t->key, ends, f->fit.starts + f->score.starts, basis_text(b, f, stretch, ""));
}

/* The pool's ends on one GPU of a stage. */
static void pool_ends(const struct banding *b, const struct budget *m, double low, double high,
                      double ends[2])
{
    double of = (double)(b->range.of_usable ? m->usable_bytes : m->kv_pool_bytes);
    double planned = (double)m->kv_pool_bytes - (double)m->short_bytes;

    ends[0] = planned + of * low;
    ends[1] = planned + of * high;
    whole_ends(ends);
}

static void add_pool(struct banding *b, cJSON *to)
{
    static const char key[] = "kv_pool_bytes";
    const struct budget *m = &b->p->stages[b->plan->tightest].budget;
    const struct band_figure *f = figure_of(b, "memory.per_gpu.kv_pool_bytes");
    double low = 0, high = 0, stretch = 0;

    if (b->p->spec->given.kv_pool_bytes != UINT64_MAX) {
        b->pool_known = true;
        b->basis = "handed in";
    } else if (!f) {
        add_entry(to, key, 0, b->none);
        return;
    } else if (!band_relative(f, &low, &high, &stretch)) {
        add_entry(to, key, f->fit.starts + f->score.starts, too_few(b, f));
        return;
    } else {
        b->pool_known = true;
        b->pool_starts = f->fit.starts + f->score.starts;
        b->basis = basis_text(b, f, stretch, b->range.of_usable ? ", of usable memory" : "");
    }
    pool_ends(b, m, low, high, b->pool);
    add_ends(to, key, b->pool, b->pool_starts, b->basis);
}

static void add_memory(struct banding *b, cJSON *to)
{
    const struct budget *m = &b->p->stages[b->plan->tightest].budget;
    const struct spec *spec = b->p->spec;
    const struct term terms[] = {
        {"weights_bytes", m->weights_bytes, spec->given.weights_bytes},
        {"activation_bytes", m->activation_bytes, spec->given.activation_bytes},
        {"non_torch_bytes", m->non_torch_bytes, spec->given.non_torch_bytes},
        {"cuda_graph_bytes", m->cuda_graph_bytes, spec->given.cuda_graph_bytes},
        {"workspace_bytes", m->workspace_bytes, spec->given.workspace_bytes},
    };
    cJSON *o = json_object(json_object(to, "memory"), "per_gpu");

    for (size_t i = 0; i < COUNT(terms); i++)
        add_term(b, &terms[i], o);
    add_pool(b, o);
}

/* --- capacity: the plan at both ends of the pool ---------------------------------------------
 */

struct counted {
    const char *key;
    double planned;
    bool whole;
};

/* The plan of the same problem with a pool that lies on each stage where the band's end does.
 */
static struct plan plan_at(const struct banding *b, int end)
{
    const struct problem *p = b->p;
    const struct band_figure *f = figure_of(b, "memory.per_gpu.kv_pool_bytes");
    double rel[2] = {0, 0}, ends[2], stretch;
    struct problem other = *p;
    struct plan plan;

    if (f && p->spec->given.kv_pool_bytes == UINT64_MAX)
        (void)band_relative(f, &rel[0], &rel[1], &stretch);
    other.stages = ARENA_NEW(p->arena, struct stage, p->n_stages);
    for (uint32_t i = 0; i < p->n_stages; i++) {
        other.stages[i] = p->stages[i];
        pool_ends(b, &p->stages[i].budget, rel[0], rel[1], ends);
        other.stages[i].budget.kv_pool_bytes = (uint64_t)ends[end];
        if (other.stages[i].budget.kv_pool_bytes)
            other.stages[i].budget.short_bytes = 0;
    }
    plan_solve(&other, &p->workload, &plan);
    return plan;
}

static double count_of(const struct plan *plan, size_t which)
{
    const double counts[] = {(double)plan->kv_tokens, plan->max_concurrency,
                             (double)plan->max_batch};

    return counts[which];
}

static void add_count(const struct banding *b, const struct counted *c, cJSON *to)
{
    const struct band_figure *f =
        figure_of(b, arena_printf(b->p->arena, "capacity.%s", c->key));
    double low, high, stretch, ends[2];

    if (!f) {
        add_entry(to, c->key, 0, b->none);
        return;
    }
    if (!band_relative(f, &low, &high, &stretch)) {
        add_entry(to, c->key, f->fit.starts + f->score.starts, too_few(b, f));
        return;
    }
    ends[0] = c->planned * (1 + low);
    ends[1] = c->planned * (1 + high);
    if (c->whole)
        whole_ends(ends);
    add_ends(to, c->key, ends, f->fit.starts + f->score.starts, basis_text(b, f, stretch, ""));
}

static void add_capacity(const struct banding *b, cJSON *to)
{
    const struct counted counts[] = {
        {"kv_tokens", count_of(b->plan, 0), true},
        {"max_concurrency", count_of(b->plan, 1), false},
        {"max_batch", count_of(b->plan, 2), true},
    };
    bool solve = b->pool_known && !b->p->engine->reserve;
    struct plan at[2];
    cJSON *o = json_object(to, "capacity");

    for (int end = 0; solve && end < 2; end++)
        at[end] = plan_at(b, end);
    for (size_t i = 0; i < COUNT(counts); i++) {
        double ends[2];
        if (i == 2 && b->plan->batch_limit == LIMIT_NONE)
            continue;
        if (!solve) {
            add_count(b, &counts[i], o);
            continue;
        }
        for (int end = 0; end < 2; end++)
            ends[end] = count_of(&at[end], i);
        add_ends(o, counts[i].key, ends, b->pool_starts,
                 arena_printf(b->p->arena, "the plan at both ends of the pool's band: %s",
                              b->basis));
    }
}

/* --- the object -----------------------------------------------------------------------------
 */

/* None of the starts was on the plan's GPU. */
static bool other_gpu(const struct banding *b, const struct profiles *profiles)
{
    const struct doc_node *list = b->range.gpus;

    for (const struct doc_node *n = list ? list->first : NULL; n; n = n->next) {
        const struct doc_node *g =
            profile_find(profiles, PROFILE_GPU, n->text, diag_new(b->p->arena));
        const struct doc_node *name = doc_get(g, "name");
        if (name && b->p->gpu.name && !strcmp(name->text, b->p->gpu.name))
            return false;
    }
    return list && list->first;
}

static const char *overall(const struct banding *b, const struct profiles *profiles)
{
    struct arena *a = b->p->arena;
    const struct band_range *r = &b->range;
    const char *apart =
        r->left_out ? arena_printf(a, ", %llu more left out", (unsigned long long)r->left_out)
                    : "";

    return arena_printf(a, "%llu measured start%s of %s %s%s%s (profiles/engines/%s.yaml)",
                        (unsigned long long)r->starts, r->starts == 1 ? "" : "s", r->engine,
                        r->words, other_gpu(b, profiles) ? ", none on this GPU" : "", apart,
                        r->engine);
}

void band_json(const struct problem *p, const struct plan *plan,
               const struct profiles *profiles, cJSON *to)
{
    struct banding b = {.p = p, .plan = plan};
    cJSON *o = json_object(to, "band");
    struct diag *d = diag_new(p->arena);

    if (!strcmp(p->engine->name, "ideal")) {
        json_text(o, "basis", "no measurement: ideal is exact arithmetic by definition");
        json_u64(o, "measurements", 0);
        return;
    }
    b.known = profiles &&
              band_find(p->arena, profiles, p->engine->name, p->settings.version, d, &b.range);
    b.none = b.known ? arena_printf(p->arena, "no measurement: no start of %s %s says it",
                                    p->engine->name, b.range.words)
                     : arena_printf(p->arena, "no measurement of %s%s%s", p->engine->name,
                                    p->settings.version ? " " : " at its newest version",
                                    p->settings.version ? p->settings.version : "");
    if (diag_failed(d))
        b.none = "no measurement: the residuals of this engine cannot be read";
    json_text(o, "basis", b.known ? overall(&b, profiles) : b.none);
    json_u64(o, "measurements", b.known ? b.range.starts : 0);
    add_memory(&b, o);
    add_capacity(&b, o);
}
