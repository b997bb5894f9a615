/* A step's bytes and FLOP from its batch, as the planner counts them for a decode and a prefill
 * of their own (planner/cost/work.c, planner/plan/capacity.c), and the seconds of a series of
 * such steps. */
#include "sim/step.h"

#include <math.h>
#include <string.h>

#include "sim/stretch.h"

/* --- batches -------------------------------------------------------------------------------
 */

void step_batch_add(struct step_batch *b, uint32_t stage, uint32_t n_reads,
                    const struct curve_piece *p, int sign)
{
    for (uint32_t g = 0; g < n_reads; g++) {
        struct curve_point *keys = &b->sums[stage].keys[g], *bytes = &b->sums[stage].bytes[g];
        keys->value += sign * p->keys[g].value;
        keys->slope += sign * p->keys[g].slope;
        bytes->value += sign * p->bytes[g].value;
        bytes->slope += sign * p->bytes[g].slope;
    }
}

void step_batch_advance(struct step_batch *b, uint32_t n_stages, const uint32_t *n_reads,
                        uint64_t steps)
{
    for (uint32_t s = 0; s < n_stages; s++) {
        for (uint32_t g = 0; g < n_reads[s]; g++) {
            struct curve_point *keys = &b->sums[s].keys[g], *bytes = &b->sums[s].bytes[g];
            keys->value += keys->slope * (int64_t)steps;
            bytes->value += bytes->slope * (int64_t)steps;
        }
    }
}

/* --- what a step does ----------------------------------------------------------------------
 */

struct ops {
    struct op_tally at, per; /* the first step's, and what each further step adds */
};

struct load {
    struct ops all;
    /* Attention of the decodes where there are chunks too: other kernels, or other blocks of
     * the same one, that hide nothing of the chunks' and are not hidden by them. */
    struct ops decodes;
    double link_bytes, link_slope_bytes;
    uint64_t prefill, runs; /* prompt tokens; passes in which prompts are decoded one by one */
    uint32_t sequential;    /* prompts that are */
    uint64_t sampled;       /* tokens that come out */
};

static void add_group(const struct curve_group *g, double keys, double bytes,
                      struct op_tally *t)
{
    if (g->scheme) {
        t->flop[OP_SCHEME] += keys * CURVE_FLOP;
        t->bytes[OP_SCHEME] += bytes;
        return;
    }
    t->flop[OP_DEQUANT] += keys * g->dequant_flop;
    t->flop[g->index ? OP_INDEXER : OP_SCORES] += keys * g->scores_flop;
    t->bytes[g->index ? OP_INDEXER : OP_SCORES] += bytes * g->k_ratio;
    if (g->index)
        return;
    t->flop[OP_VALUES] += keys * g->values_flop;
    t->bytes[OP_VALUES] += bytes * (1 - g->k_ratio);
}

/* The share of a scheme's own cost that falls to a rank of a stage. */
static double scheme_share(const struct problem *p)
{
    return 1.0 / (p->parallel.tp * (double)p->n_stages);
}

static void add_decodes(const struct curve *c, const struct step_batch *b, struct load *l)
{
    const struct stage *s = c->stage;
    double n = (double)b->decodes, off = c->problem->offload;
    struct ops *reads = b->n_chunks ? &l->decodes : &l->all;
    double rows = b->n_chunks ? c->mixed_rows : 1;

    for (uint32_t i = 0; i < c->n_reads; i++) {
        const struct curve_group *g = &c->groups[i];
        const struct curve_point *keys = &b->sums[c->index].keys[i];
        const struct curve_point *bytes = &b->sums[c->index].bytes[i];
        double share = g->scheme ? scheme_share(c->problem) : 1;
        add_group(g, (double)keys->value * share, (double)bytes->value * share, &reads->at);
        add_group(g, (double)keys->slope * share, (double)bytes->slope * share, &reads->per);
        l->link_bytes += g->scheme ? 0 : off * (double)bytes->value;
        l->link_slope_bytes += g->scheme ? 0 : off * (double)bytes->slope;
    }
    for (int op = OP_SCORES; op <= OP_VALUES; op++) {
        reads->at.flop[op] *= rows;
        reads->per.flop[op] *= rows;
    }
    for (int op = 0; op < N_OPS; op++)
        l->all.at.flop[op] += n * s->work.token_flop[op];
    l->all.at.bytes[OP_QKV] += n * (double)c->write_bytes;
    l->all.at.bytes[OP_STATE] += 2 * n * (double)s->fold.state_bytes;
    l->link_bytes += n * off * (double)s->fold.state_bytes;
}

/* --- chunks --------------------------------------------------------------------------------
 */

static uint64_t longest_sequential(const struct problem *p)
{
    return p->layout.sequential_prefill
               ? UINT64_MAX
               : (uint64_t)p->layout.forward_passes + p->layout.backward_passes;
}

/* What crosses the host link: what the chunk leaves of the offloaded share. */
static double left_bytes(const struct curve *c, const struct step_chunk *k)
{
    const struct fold *f = &c->stage->fold;
    uint64_t block = c->problem->block_tokens;
    struct ck ck = {0};
    double now = (double)fold_resident_bytes(f, k->offset + k->tokens, 0, block, &ck);
    double before = k->offset ? (double)fold_resident_bytes(f, k->offset, 0, block, &ck) : 0;

    return now > before ? now - before : 0;
}

static void add_schemes(const struct curve *c, const struct step_chunk *k, struct op_tally *t)
{
    const struct problem *p = c->problem;
    struct phase ph = {k->prompt, 0};
    struct extra_cost e;

    if (!p->n_uses || !k->last)
        return;
    scheme_costs(p->uses, p->n_uses, &p->layout, &ph, &e);
    t->flop[OP_SCHEME] += e.prefill_flop * scheme_share(p);
    t->bytes[OP_SCHEME] += 2.0 * (double)e.transient_prefill_bytes * scheme_share(p);
}

static void add_chunk(const struct curve *c, const struct step_chunk *k, struct op_tally *t)
{
    struct work_part part = {k->offset, k->offset + k->tokens, 1, k->last};

    work_prompt(&c->stage->work, &c->stage->fold, part, t);
    add_schemes(c, k, t);
}

/* A prompt of an upward map that is decoded token by token. The weights of these passes are the
 * caller's. */
static void add_sequential(const struct curve *c, const struct step_chunk *k, struct load *l)
{
    const struct work *w = &c->stage->work;
    struct op_tally t = {{0}, {0}}, weights = {{0}, {0}};
    double n = (double)k->prompt;

    work_prefill(w, &c->stage->fold, k->prompt, 1, UINT64_MAX, &t);
    work_decode_weights(w, 1, &weights);
    for (int op = 0; op < N_OPS; op++) {
        l->all.at.flop[op] += t.flop[op];
        l->all.at.bytes[op] += t.bytes[op] - n * weights.bytes[op];
    }
    add_schemes(c, k, &l->all.at);
    l->runs = u64_max(l->runs, k->prompt);
    l->sequential++;
}

static void add_chunks(const struct curve *c, const struct step_batch *b, struct load *l)
{
    const struct problem *p = c->problem;
    bool upward = c->stage->work.upward;

    for (uint32_t i = 0; i < b->n_chunks; i++) {
        const struct step_chunk *k = &b->chunks[i];
        l->prefill += k->tokens;
        l->sampled += k->last;
        if (p->offload > 0)
            l->link_bytes += p->offload * left_bytes(c, k);
        if (upward && k->prompt <= longest_sequential(p))
            add_sequential(c, k, l);
        else
            add_chunk(c, k, &l->all.at);
    }
    if (b->stride) {
        struct step_chunk next = b->chunks[0];
        struct op_tally now = {{0}, {0}}, then = {{0}, {0}};
        add_chunk(c, &next, &now);
        next.offset += next.tokens;
        add_chunk(c, &next, &then);
        for (int op = 0; op < N_OPS; op++) {
            l->all.per.flop[op] += then.flop[op] - now.flop[op];
            l->all.per.bytes[op] += then.bytes[op] - now.bytes[op];
        }
    }
}

/* --- seconds -------------------------------------------------------------------------------
 */

/* Weights once for the whole batch, as often as its prompts make passes. */
static void add_weights(const struct work *w, const struct step_batch *b, struct load *l)
{
    struct op_tally t = {{0}, {0}}, one = {{0}, {0}};
    uint64_t tokens = b->decodes + l->prefill;

    if (b->n_chunks > l->sequential)
        work_prefill_weights(w, tokens, &t);
    else if (b->decodes)
        work_decode_weights(w, b->decodes, &t);
    if (l->runs)
        work_decode_weights(w, l->sequential, &one);
    for (int op = 0; op < N_OPS; op++) {
        double runs = (double)l->runs * one.bytes[op];
        l->all.at.bytes[op] += t.bytes[op] > runs ? t.bytes[op] : runs;
    }
    l->link_bytes += (double)(b->n_chunks ? w->offloaded_prefill_bytes : w->offloaded_bytes);
}

/* Runs of layers whose kernels are launched. */
static double layer_runs(const struct problem *p, const struct work *w,
                         const struct step_batch *b)
{
    uint64_t runs = b->decodes ? w->layers : 0;

    for (uint32_t i = 0; i < b->n_chunks; i++) {
        uint64_t n = b->chunks[i].prompt;
        bool steps = p->whole_work.upward && n <= longest_sequential(p);
        runs = u64_max(runs, steps ? w->layers * n : w->layer_passes);
    }
    return (double)runs;
}

/* --- series --------------------------------------------------------------------------------
 */

struct series {
    struct step_side t; /* of the first steps */
    struct turn {       /* from step `at` on the other side of an op is the longer one: what
                           that adds */
        uint64_t at;
        struct step_side more;
    } turns[STEP_STAGES * 10];
    uint32_t n_turns;
};

static void add_turn(struct series *out, struct turn t)
{
    uint32_t i = out->n_turns++;

    for (; i > 0 && out->turns[i - 1].at > t.at; i--)
        out->turns[i] = out->turns[i - 1];
    out->turns[i] = t;
}

static void add_longer(struct step_side a, struct step_side b, struct series *out)
{
    struct step_side later;
    uint64_t at = step_longer(&a, b, &later);

    out->t.s += a.s;
    out->t.slope_s += a.slope_s;
    if (at != UINT64_MAX)
        add_turn(out, (struct turn){at, {later.s - a.s, later.slope_s - a.slope_s}});
}

static void add_seconds(const struct machine *m, const struct ops *l, struct series *out)
{
    for (int op = 0; op < N_OPS; op++) {
        struct op_sides at, per;
        if (op == OP_COLLECTIVE || op == OP_LAUNCH ||
            (l->at.bytes[op] == 0 && l->at.flop[op] == 0))
            continue;
        at = roofline_sides(m, (enum op)op, l->at.bytes[op], l->at.flop[op]);
        if (l->per.bytes[op] == 0 && l->per.flop[op] == 0) {
            out->t.s += at.memory_s > at.math_s ? at.memory_s : at.math_s;
            continue;
        }
        per = roofline_sides(m, (enum op)op, l->per.bytes[op], l->per.flop[op]);
        add_longer((struct step_side){at.memory_s, per.memory_s},
                   (struct step_side){at.math_s, per.math_s}, out);
    }
}

/* One stage's part of the step; the stages follow each other. */
static void add_stage(const struct curve *c, const struct step_batch *b, struct series *out,
                      struct step_side *link)
{
    const struct problem *p = c->problem;
    const struct work *w = &c->stage->work;
    struct load l = {.prefill = 0};
    uint32_t messages;

    if (b->decodes)
        add_decodes(c, b, &l);
    add_chunks(c, b, &l);
    add_weights(w, b, &l);
    messages = roofline_collectives(&p->model, p->parallel, w->layers,
                                    (double)(b->decodes + l.prefill), &l.all.at);
    messages +=
        roofline_logits(w, &p->model, p->parallel, (double)(b->decodes + l.sampled), &l.all.at);
    add_seconds(&p->machine, &l.all, out);
    if (b->decodes && b->n_chunks)
        add_seconds(&p->machine, &l.decodes, out);
    out->t.s += roofline_fixed_s(&l.all.at, &p->machine,
                                 KERNELS_PER_LAYER * layer_runs(p, w, b), messages);
    link->s += l.link_bytes;
    link->slope_s += l.link_slope_bytes;
}

static void put_series(const struct series *s, struct step_line *l)
{
    struct step_side t = s->t;

    step_line_put(l, 0, t);
    for (uint32_t i = 0; i < s->n_turns; i++) {
        const struct turn *u = &s->turns[i];
        t.s += u->more.s;
        t.slope_s += u->more.slope_s;
        step_line_put(l, u->at, (struct step_side){t.s + t.slope_s * (double)u->at, t.slope_s});
    }
}

/* Measured steps: the context grows by the same number every step. */
static void put_table(const struct step_model *m, const struct step_batch *b,
                      struct step_line *l)
{
    struct table_place places[TABLE_PLACES];
    double prefill = 0, decodes = (double)b->decodes;
    struct step_side context = {0, 0};
    uint32_t n;

    if (b->decodes)
        context = (struct step_side){(double)b->sums[0].keys[0].value,
                                     (double)b->sums[0].keys[0].slope};
    for (uint32_t i = 0; i < b->n_chunks; i++) {
        prefill += (double)b->chunks[i].tokens;
        context.s += (double)b->chunks[i].offset;
        context.slope_s += b->stride ? (double)b->chunks[i].tokens : 0;
    }
    n = step_table_line(m->table, prefill, decodes, places);
    for (uint32_t i = 0; i < n; i++) {
        double wait = places[i].from - context.s, here;
        uint64_t from = 0;
        if (wait > 0 && wait >= context.slope_s * STEP_FAR)
            break;
        if (wait > 0)
            from = step_ceil(wait / context.slope_s);
        here = context.s + context.slope_s * (double)from - places[i].from;
        step_line_put(l, from,
                      (struct step_side){places[i].seconds + here * places[i].slope,
                                         places[i].slope * context.slope_s});
    }
    step_line_raise(l, (struct step_side){0, 0});
}

void step_prepare(const struct step_model *m, const struct step_batch *b, struct step_line *out)
{
    const struct problem *p = m->problem;
    struct step_side link = {0, 0};
    struct series s;

    s.t = link;
    s.n_turns = 0;
    out->n_places = 0;
    if (m->table) {
        put_table(m, b, out);
        step_line_close(out, m->overhead_s);
        return;
    }
    for (uint32_t i = 0; i < m->n_stages; i++)
        add_stage(&m->curves[i], b, &s, &link);
    put_series(&s, out);
    if ((p->offload > 0 || p->stages[0].work.offloaded_bytes) &&
        p->machine.link_bytes_per_s > 0) {
        double ranks = (double)p->parallel.tp * p->parallel.cp * p->parallel.dp;
        double by = ranks / p->machine.link_bytes_per_s;
        step_line_raise(out, (struct step_side){link.s * by, link.slope_s * by});
    }
    step_line_close(out, m->overhead_s);
}

/* --- building ------------------------------------------------------------------------------
 */

static bool prunes_prompts(const struct problem *p)
{
    for (uint32_t i = 0; i < p->layout.n_rows; i++) {
        const struct cache_row *r = &p->layout.rows[i];
        if (r->readers && r->stream != STREAM_STATE && r->keep.when == KEEP_IN_LAYER)
            return true;
    }
    return false;
}

static void set_overhead(const struct problem *p, const struct step_options *opt,
                         struct step_model *out)
{
    out->overhead_s = opt->overhead_s;
    out->overhead_why = "given";
    if (opt->overhead_s >= 0)
        return;
    out->overhead_s = 0;
    out->overhead_why = "none is known of this engine (unverified)";
    if (opt->table_path)
        out->overhead_why = "part of the measured steps";
    else if (p->engine->step_overhead)
        out->overhead_s =
            p->engine->step_overhead(&p->settings, p->parallel, &out->overhead_why);
}

bool step_build(struct arena *a, const struct problem *p, const struct step_options *opt,
                struct diag *d, struct step_model *out)
{
    bool ok = true;

    *out = (struct step_model){.problem = p, .n_stages = p->n_stages};
    if (p->n_stages > STEP_STAGES)
        return diag_add(d, DIAG_INPUT, p->spec->at,
                        "%u pipeline stages: the simulator takes at most %d", p->n_stages,
                        STEP_STAGES);
    if (opt->table_path && !step_table_read(a, opt->table_path, d, &out->table))
        return false;
    if (!out->table && !p->gpu_named)
        return diag_add(d, DIAG_INPUT, p->spec->at,
                        "the speed of the GPU is not known, so its steps have no time: give "
                        "bandwidth and a peak rate in hardware.gpu, or measured steps");
    set_overhead(p, opt, out);
    out->whole_prompts = p->whole_work.upward || prunes_prompts(p);
    for (uint32_t i = 0; i < p->n_stages; i++)
        ok = curve_build(a, p, i, out->table != NULL, d, &out->curves[i]) && ok;
    return ok;
}

/* --- equal chunks --------------------------------------------------------------------------
 */

struct chunks {
    const struct read_class *class;
    const struct step_chunk *first;
};

static void ask_chunk(const void *of, uint64_t i, int64_t v[STRETCH_VALUES])
{
    const struct chunks *q = of;
    const struct cache_row *r = &q->class->reader, *s = &q->class->source;
    bool selects = r->select_tokens && r->stream == STREAM_LATENT;
    uint64_t window = selects ? r->select_tokens : r->window_tokens;
    uint64_t from = q->first->offset + i * q->first->tokens, to = from + q->first->tokens;
    struct ck ck = {0};

    v[0] = (int64_t)(work_pairs(to, window, r->mixer, r->diagonal_masked) -
                     (from ? work_pairs(from, window, r->mixer, r->diagonal_masked) : 0));
    v[1] = (int64_t)row_bytes(s, to, work_prompt_keys(r, from, to), &ck);
}

uint64_t step_chunk_steps(const struct step_model *m, const struct step_chunk *c)
{
    uint64_t steps = ck_ceil_div(c->prompt - u64_min(c->offset, c->prompt), c->tokens);

    for (uint32_t i = 0; i < m->n_stages; i++) {
        const struct fold *f = &m->curves[i].stage->fold;
        if (m->curves[i].even_chunks)
            continue;
        if (m->problem->offload > 0)
            return 1;
        for (uint32_t k = 0; k < f->n_reads; k++) {
            struct chunks q = {&f->reads[k], c};
            struct curve_point points[STRETCH_VALUES];
            steps = stretch_find(ask_chunk, &q, steps, points);
        }
    }
    return u64_max(steps, 1);
}
