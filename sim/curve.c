/* What a decoding sequence reads. A read class whose keys follow from a formula (it grows by
 * one a step up to a limit: windows, caps, selections; chunks begin anew) is cut by that
 * formula; the others, and the schemes' own costs, are asked step by step and cut by
 * stretch_find. */
#include "sim/stretch.h"

struct curve_class {
    const struct read_class *read;
    uint32_t group;
    bool closed;          /* by formula */
    bool capped;          /* the rule keeps at most keep.fixed, whatever the prompt */
    uint64_t own;         /* 1: the new token sees itself */
    uint64_t limit;       /* most keys; UINT64_MAX = none */
    uint64_t chunk;       /* attention begins anew every so many tokens; 0 = not */
    uint64_t token_bytes; /* closed: of one row */
};

/* --- building ------------------------------------------------------------------------------
 */

static uint64_t limit_of(uint64_t limit, uint64_t most)
{
    return most ? u64_min(limit, most) : limit;
}

static struct curve_class class_of(const struct read_class *c, uint32_t cp)
{
    const struct cache_row *r = &c->reader, *s = &c->source;
    enum stretch_rule rule = stretch_rule(&s->keep);
    struct curve_class out = {.read = c, .own = !r->diagonal_masked, .limit = UINT64_MAX};
    struct ck ck = {0};

    if (s->store_window_tokens)
        out.limit = s->store_window_tokens + out.own;
    if (rule == STRETCH_CAPPED)
        out.limit = u64_min(out.limit, s->keep.fixed + out.own);
    out.limit = limit_of(out.limit, r->window_tokens);
    if (!r->select_page_tokens)
        out.limit = limit_of(out.limit, r->select_tokens);
    out.chunk = r->mixer == MIXER_CHUNKED ? r->window_tokens : 0;
    out.capped = rule == STRETCH_CAPPED;
    out.closed =
        cp == 1 && rule != STRETCH_ASKED && !r->select_page_tokens && stretch_even_bytes(s);
    out.token_bytes = row_bytes(s, 0, 1, &ck);
    return out;
}

static struct curve_group group_of(const struct read_class *c)
{
    const struct cache_row *r = &c->reader, *s = &c->source;
    struct curve_group g = {.k_ratio = 1, .index = r->stream == STREAM_INDEX};

    g.scores_flop = 2.0 * r->q_heads * r->score_dim;
    g.values_flop = 2.0 * r->q_heads * r->value_dim;
    g.dequant_flop = work_dequant_flop(s);
    if (s->v_dim && !g.index)
        g.k_ratio = (double)s->k_dim / ((double)s->k_dim + s->v_dim);
    return g;
}

static bool same_group(const struct curve_group *a, const struct curve_group *b)
{
    return a->scores_flop == b->scores_flop && a->values_flop == b->values_flop &&
           a->dequant_flop == b->dequant_flop && a->k_ratio == b->k_ratio &&
           a->index == b->index && a->scheme == b->scheme;
}

/* The number of an equal group, a new one if there is none; CURVE_CLASSES when full. */
static uint32_t add_group(struct curve *c, const struct curve_group *g)
{
    for (uint32_t i = 0; i < c->n_reads; i++)
        if (same_group(&c->groups[i], g))
            return i;
    if (c->n_reads < CURVE_CLASSES)
        c->groups[c->n_reads++] = *g;
    else
        return CURVE_CLASSES;
    return c->n_reads - 1;
}

/* Whether the schemes cost or hold anything while a sequence decodes. Rules that act on the
 * prompt alone do nothing then, which a few looks confirm. */
static bool schemes_cost(const struct problem *p)
{
    static const struct phase looks[] = {{1, 0}, {300, 1}, {5000, 0}, {5000, 777}, {70000, 9}};
    struct extra_cost e;
    bool any = false;

    for (uint32_t i = 0; i < p->n_uses; i++)
        any = any || p->uses[i].scheme->extra;
    for (uint32_t i = 0; any && i < p->layout.n_rows; i++)
        if (p->layout.rows[i].keep.decode)
            return true;
    for (size_t i = 0; any && i < sizeof looks / sizeof *looks; i++) {
        scheme_costs(p->uses, p->n_uses, &p->layout, &looks[i], &e);
        if (e.decode_flop > 0 || e.persistent_bytes || e.decode_read_bytes ||
            e.decode_write_bytes)
            return true;
    }
    return false;
}

static bool add_classes(struct arena *a, struct curve *c)
{
    const struct fold *f = &c->stage->fold;
    struct curve_class *classes = ARENA_NEW(a, struct curve_class, f->n_reads + 1);
    uint32_t group = 0;

    for (uint32_t i = 0; i < f->n_reads && group < CURVE_CLASSES; i++) {
        struct curve_class k = class_of(&f->reads[i], f->slice.cp);
        struct curve_group g = group_of(&f->reads[i]);
        k.group = group = add_group(c, &g);
        classes[c->n_classes++] = k;
    }
    c->classes = classes;
    if (c->scheme && group < CURVE_CLASSES) {
        struct curve_group g = {.scheme = true};
        group = add_group(c, &g);
    }
    return group < CURVE_CLASSES;
}

/* One line for all time: every class grows with the tokens and nothing bends it. */
static void find_affine(struct curve *c)
{
    c->affine = !c->scheme;
    for (uint32_t i = 0; i < c->n_classes; i++) {
        const struct curve_class *k = &c->classes[i];
        int64_t rows = k->read->count, bytes = (int64_t)k->token_bytes;
        struct curve_point *keys = &c->first[k->group], *read = keys + CURVE_CLASSES;
        c->affine = c->affine && k->closed && !k->chunk && k->limit == UINT64_MAX &&
                    !k->read->source.keep.prompt;
        keys->value += rows * (int64_t)k->own;
        keys->slope += rows;
        read->value += rows * (int64_t)k->own * bytes;
        read->slope += rows * bytes;
    }
}

static void find_even(struct curve *c)
{
    const struct problem *p = c->problem;
    const struct fold *f = &c->stage->fold;
    struct ck ck = {0};

    c->even_chunks = p->offload <= 0;
    for (uint32_t i = 0; i < f->n_reads; i++) {
        const struct read_class *r = &f->reads[i];
        c->even_chunks = c->even_chunks && !r->reader.window_tokens &&
                         !r->reader.select_tokens && !r->source.store_window_tokens &&
                         stretch_even_bytes(&r->source);
    }
    c->even_rows = p->block_tokens <= 1 && f->slice.cp == 1 && !p->engine->need && !c->scheme;
    c->even_bytes = c->even_rows;
    for (uint32_t i = 0; i < p->n_uses; i++)
        c->even_bytes = c->even_bytes && !p->uses[i].scheme->extra;
    for (uint32_t i = 0; i < f->n_stores; i++) {
        const struct cache_row *s = &f->stores[i].row;
        c->even_rows = c->even_rows && stretch_even_bytes(s);
        c->even_bytes = c->even_bytes && stretch_even_bytes(s) && !s->store_window_tokens &&
                        !s->keep.prompt && !s->keep.decode && !s->keep.copies_in_prefill;
    }
    c->token_bytes = fold_token_bytes(f, false, &ck);
    c->write_bytes = fold_decode_write_bytes(f, &ck) - f->state_bytes;
}

/* Latents and selected tokens have kernels of their own. */
static double mixed_rows(const struct curve *c)
{
    const struct problem *p = c->problem;
    const struct fold *f = &c->stage->fold;

    for (uint32_t i = 0; i < f->n_reads; i++)
        if (f->reads[i].source.stream != STREAM_KV || f->reads[i].reader.select_tokens)
            return 1;
    return p->engine->mixed_rows ? p->engine->mixed_rows(&p->settings, &p->gpu) : 1;
}

bool curve_build(struct arena *a, const struct problem *p, uint32_t stage, bool context,
                 struct diag *d, struct curve *out)
{
    *out = (struct curve){.problem = p, .stage = &p->stages[stage], .index = stage};
    out->scheme = schemes_cost(p);
    find_even(out);
    out->mixed_rows = mixed_rows(out);
    if (context) {
        out->context = out->affine = out->even_chunks = true;
        out->n_reads = 1;
        out->first[0].slope = 1;
        return true;
    }
    if (!add_classes(a, out))
        return diag_add(d, DIAG_INPUT, p->spec->at,
                        "the rows of this model cost a key in more than %d ways: it cannot be "
                        "simulated",
                        CURVE_CLASSES);
    find_affine(out);
    return true;
}

/* --- reading -------------------------------------------------------------------------------
 */

struct asked { /* a class or, class NULL, the schemes, from a step on */
    const struct curve *c;
    const struct curve_class *class;
    uint64_t n, decoded;
};

static void ask_class(const void *of, uint64_t i, int64_t v[STRETCH_VALUES])
{
    const struct asked *q = of;
    const struct read_class *r = q->class->read;
    uint64_t keys = row_attended_tokens(&r->reader, &r->source, q->n, q->decoded + i);
    struct ck ck = {0};

    keys = ck_ceil_div(keys, q->c->stage->fold.slice.cp);
    v[0] = (int64_t)keys;
    v[1] = (int64_t)row_bytes(&r->source, q->n, keys, &ck);
}

static void ask_schemes(const void *of, uint64_t i, int64_t v[STRETCH_VALUES])
{
    const struct asked *q = of;
    const struct problem *p = q->c->problem;
    struct phase ph = {q->n, q->decoded + i};
    struct extra_cost e = {0};

    scheme_costs(p->uses, p->n_uses, &p->layout, &ph, &e);
    v[0] = (int64_t)(e.decode_flop / CURVE_FLOP + 0.5);
    v[1] = (int64_t)(e.decode_read_bytes + e.decode_write_bytes);
}

static struct stretch keys_line(const struct curve_class *k, uint64_t n, uint64_t decoded)
{
    uint64_t kept = k->capped ? n : stretch_prompt(&k->read->source.keep, n);
    uint64_t first = kept + decoded + k->own, at;
    struct stretch l;

    if (!k->chunk)
        return stretch_clipped(first, k->limit);
    at = (n + decoded) % k->chunk;
    l = stretch_clipped(u64_min(first, at + k->own), k->limit);
    l.steps = u64_min(l.steps, k->chunk - at);
    return l;
}

static void add_points(struct curve_piece *out, uint32_t group, int64_t rows,
                       const struct curve_point p[STRETCH_VALUES])
{
    out->keys[group].value += rows * p[0].value;
    out->keys[group].slope += rows * p[0].slope;
    out->bytes[group].value += rows * p[1].value;
    out->bytes[group].slope += rows * p[1].slope;
}

static void add_class(const struct asked *q, struct curve_piece *out)
{
    const struct curve_class *k = q->class;
    int64_t bytes = (int64_t)k->token_bytes;
    struct curve_point p[STRETCH_VALUES];
    uint64_t steps;

    if (k->closed) {
        struct stretch l = keys_line(k, q->n, q->decoded);
        steps = l.steps;
        p[0] = l.at;
        p[1] = (struct curve_point){l.at.value * bytes, l.at.slope * bytes};
    } else {
        steps = stretch_find(ask_class, q, CURVE_FOREVER, p);
    }
    add_points(out, k->group, k->read->count, p);
    out->steps = u64_min(out->steps, steps);
}

void curve_reads(const struct curve *c, uint64_t n, uint64_t decoded, struct curve_piece *out)
{
    struct asked q = {c, NULL, n, decoded};
    struct curve_point p[STRETCH_VALUES];
    int64_t tokens = (int64_t)(n + decoded);

    out->steps = CURVE_FOREVER;
    for (uint32_t g = 0; g < c->n_reads; g++) {
        const struct curve_point *keys = &c->first[g], *bytes = keys + CURVE_CLASSES;
        out->keys[g] = (struct curve_point){keys->value + keys->slope * tokens, keys->slope};
        out->bytes[g] =
            (struct curve_point){bytes->value + bytes->slope * tokens, bytes->slope};
    }
    if (c->affine)
        return;
    for (uint32_t g = 0; g < c->n_reads; g++)
        out->keys[g] = out->bytes[g] = (struct curve_point){0, 0};
    for (uint32_t i = 0; i < c->n_classes; i++) {
        q.class = &c->classes[i];
        add_class(&q, out);
    }
    if (c->scheme) {
        q.class = NULL;
        out->steps = stretch_find(ask_schemes, &q, out->steps, p);
        add_points(out, c->n_reads - 1, 1, p);
    }
}
