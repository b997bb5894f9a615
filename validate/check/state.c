/* state - recurrent mixers, once for every kind and shape of state: what a decode step and a
 * prompt read and write of the states, and the FLOPs of convolution, recurrence and gate beside
 * the mixer's matrices, are the planner's; what the kernels issue is their own formula. A
 * prompt of any length reads and writes its state once. */
#include <string.h>

#include "kernels/rows.h"
#include "planner/cost/shard.h"
#include "planner/plan/problem.h"
#include "validate/count.h"
#include "validate/mixer.h"

enum { PROMPT_MAX = 64 };

/* Elements of a state times tokens that are tried. */
#define WORK_MAX ((uint64_t)1 << 24)

struct state_case {
    const struct check_in *in;
    struct findings *out;
    const struct state *whole; /* of all ranks */
    const struct cache_row *row;
    struct state part;
    uint32_t layers; /* that are alike */
    bool prompt;
    struct recurrence m;
    struct traffic formula;
    uint64_t seed;
};

static struct finding like(const struct state_case *x, const char *what, enum quantity quantity)
{
    const struct state *s = &x->part;
    struct arena *a = x->out->arena;
    const char *of =
        x->prompt ? arena_printf(a, "a prompt of %u tokens", x->m.tokens) : "a step";
    struct mixer_width w;

    mixer_widths(s, x->m.hidden, &w);
    return (struct finding){.spec = x->in->subject->name,
                            .check = "state",
                            .what = arena_printf(a, "%s of %s: %s, %llu + %llu elements, x %u",
                                                 what, of, state_kind_name(s->kind),
                                                 (unsigned long long)w.conv_elems,
                                                 (unsigned long long)w.state_elems, x->layers),
                            .level = LEVEL_COUNT,
                            .quantity = quantity};
}

/* --- buffers --------------------------------------------------------------------------------
 */

static enum device_status put(struct state_case *x, enum tag tag, uint64_t elements, void **out)
{
    struct noise_args a = {.count = (elements + 7) / 8 * 8,
                           .seed = x->seed++,
                           .spread = 3.4641f,
                           .fp16 = x->m.fp16,
                           .tag = tag};
    enum device_status s;

    *out = NULL;
    if (!elements)
        return DEVICE_OK;
    s = device_alloc(x->in->device, 2 * a.count, tag, out);
    a.out = *out;
    return s == DEVICE_OK ? noise_run(x->in->device, &a) : s;
}

/* Vectors that the three kernels read, as the weight table has them. */
static enum device_status put_weights(struct state_case *x)
{
    static const enum mixer_weight read[] = {MIX_CONV,    MIX_CONV_BIAS, MIX_A_LOG,
                                             MIX_DT_BIAS, MIX_D,         MIX_NORM};
    const struct problem *p = x->in->subject->problem;
    struct layer l = {.state = x->part};
    struct tensor t[LAYER_TENSORS_MAX];
    size_t n = weights_layer(p->layout.model, &l, false, t);
    enum device_status s = DEVICE_OK;

    for (size_t i = 0; i < sizeof read / sizeof *read; i++) {
        const char *name = mixer_weight_name(x->part.kind, read[i]);
        void *w = NULL;
        for (size_t k = 0; k < n && name && s == DEVICE_OK; k++)
            if (!strcmp(t[k].name, name))
                s = put(x, TAG_WEIGHTS, t[k].out * t[k].in, &w);
        x->m.weight[read[i]] = w;
    }
    return s;
}

static enum device_status put_all(struct state_case *x)
{
    struct recurrence *m = &x->m;
    uint64_t rows = (uint64_t)m->sequences * m->tokens;
    struct mixer_width w;
    enum device_status s = put_weights(x);

    mixer_widths(&x->part, m->hidden, &w);
    const struct {
        void **at;
        uint64_t width;
    } list[] = {{&m->in, w.in},
                {&m->conv, w.conv},
                {&m->y, w.y},
                {&m->gate, w.gate},
                {&m->rate, w.rate},
                {&m->side, w.side},
                {&m->memory, m->state->kind == STATE_GMU ? w.y : 0}};
    for (size_t i = 0; i < sizeof list / sizeof *list && s == DEVICE_OK; i++)
        s = put(x, TAG_ACTIVATION, rows * list[i].width, list[i].at);
    m->slot_bytes = w.conv_elems * m->conv_elem_bytes + w.state_elems * m->state_elem_bytes;
    if (s == DEVICE_OK && m->slot_bytes)
        s = device_alloc(x->in->device, m->sequences * m->slot_bytes, TAG_STATE, &m->slots);
    if (s == DEVICE_OK && m->slot_bytes)
        s = device_fill(x->in->device, m->slots, 0, m->sequences * m->slot_bytes);
    return s == DEVICE_OK ? device_sync(x->in->device) : s;
}

/* --- running --------------------------------------------------------------------------------
 */

static enum device_status mix(struct state_case *x)
{
    struct device *d = x->in->device;
    enum device_status s = DEVICE_OK;
    struct conv_args conv;
    struct scan_args scan;
    struct gate_args gate;

    if (mixer_conv(&x->m, &conv)) {
        s = conv_run(d, &conv);
        conv_traffic(&conv, &x->formula);
    }
    if (s == DEVICE_OK && mixer_scan(&x->m, &scan)) {
        s = scan_run(d, &scan);
        scan_traffic(&scan, &x->formula);
    }
    if (s == DEVICE_OK && mixer_gate(&x->m, &gate)) {
        s = gate_run(d, &gate);
        gate_traffic(&gate, &x->formula);
    }
    return s;
}

static void compare(const struct state_case *x, const struct tally *got)
{
    const struct problem *p = x->in->subject->problem;
    uint32_t tp = p->parallel.tp;
    uint64_t rows = (uint64_t)x->m.sequences * x->m.tokens, bytes = 0;
    double flop = work_state_flop(x->whole, x->m.hidden) / tp;
    struct ck ck = {0};

    if (x->row)
        bytes = ck_mul(&ck, x->m.sequences, shard_state_bytes(x->row, x->whole, tp, &ck));
    (void)finding_equal(x->out, like(x, "bytes read", QUANTITY_BYTES), bytes,
                        got->unique_read_bytes[TAG_STATE]);
    (void)finding_equal(x->out, like(x, "bytes written", QUANTITY_BYTES), bytes,
                        got->unique_written_bytes[TAG_STATE]);
    (void)finding_equal(x->out, like(x, "products", QUANTITY_FLOP), (uint64_t)flop * rows,
                        got->issued.useful_flop);
    count_issued(x->out, like(x, "issued", QUANTITY_BYTES), &x->formula, &got->issued);
}

static void take_size(struct state_case *x, bool prompt)
{
    const struct subject *s = x->in->subject;
    uint32_t hidden = s->layout->model->hidden;
    uint64_t tokens = 1;
    struct mixer_width w;

    mixer_widths(&x->part, hidden, &w);
    if (prompt) {
        tokens = u64_min(u64_max(s->prompt, 1), PROMPT_MAX);
        tokens = u64_min(tokens, u64_max(WORK_MAX / (w.state_elems + w.conv_elems + 1), 1));
    }
    x->prompt = prompt;
    x->formula = (struct traffic){.exps = 0};
    x->m = (struct recurrence){.state = &x->part,
                               .hidden = hidden,
                               .sequences = prompt ? 1 : COUNT_SEQUENCES,
                               .tokens = (uint32_t)tokens,
                               .conv_elem_bytes = x->row ? x->row->conv_elem_bytes : 2,
                               .state_elem_bytes = x->row ? x->row->state_elem_bytes : 2,
                               .slope = 1,
                               .epsilon = 1e-5f};
    x->m.rows_max = x->m.sequences * x->m.tokens;
}

static enum device_status run_size(struct state_case *x, bool prompt)
{
    struct device *d = x->in->device;
    struct tally got;
    enum device_status s;

    take_size(x, prompt);
    s = put_all(x);
    device_tally_reset(d);
    if (s == DEVICE_OK)
        s = mix(x);
    s = count_settle(d, s, &got);
    if (s == DEVICE_OK)
        compare(x, &got);
    device_free_all(d);
    return s;
}

static enum device_status run_class(struct state_case *x)
{
    const struct problem *p = x->in->subject->problem;
    uint32_t hidden = x->in->subject->layout->model->hidden;
    const char *bad = mixer_on_rank(x->whole, p->parallel.tp, &x->part)
                          ? mixer_refuses(&x->part, hidden)
                          : "no rank has its heads or groups whole";
    enum device_status s;

    if (bad) {
        const char *what = arena_printf(x->out->arena, "the mixer: %s, x %u",
                                        state_kind_name(x->whole->kind), x->layers);
        struct finding f = {
            .spec = x->in->subject->name, .check = "state", .what = what, .level = LEVEL_COUNT};
        finding_waive(x->out, f, "%s", bad);
        return DEVICE_OK;
    }
    s = run_size(x, false);
    return s == DEVICE_OK ? run_size(x, true) : s;
}

/* --- classes --------------------------------------------------------------------------------
 */

static const struct cache_row *row_of(const struct layout *l, uint32_t layer)
{
    for (uint32_t i = 0; i < l->n_rows; i++)
        if (l->rows[i].layer == layer && l->rows[i].stream == STREAM_STATE)
            return &l->rows[i];
    return NULL;
}

/* Flags that change no kernel and no byte stand last. */
static bool alike(const struct layout *l, uint32_t a, uint32_t b)
{
    const struct cache_row *x = row_of(l, a), *y = row_of(l, b);

    const struct state *s = &l->layers[a].state, *t = &l->layers[b].state;

    return !memcmp(s, t, offsetof(struct state, dtbc_norm)) &&
           s->no_gate_norm == t->no_gate_norm &&
           (!x || (x->conv_elem_bytes == y->conv_elem_bytes &&
                   x->state_elem_bytes == y->state_elem_bytes));
}

static enum device_status run(const struct check_in *in, struct findings *out)
{
    const struct layout *l = in->subject->layout;
    bool *done = ARENA_NEW(out->arena, bool, l->n_layers + 1);
    enum device_status s = DEVICE_OK;

    for (uint32_t i = 0; i < l->n_layers && s == DEVICE_OK; i++) {
        struct state_case x = {.in = in,
                               .out = out,
                               .whole = &l->layers[i].state,
                               .row = row_of(l, i),
                               .seed = in->seed + i};
        if (done[i] || x.whole->kind == STATE_NONE)
            continue;
        for (uint32_t k = i; k < l->n_layers; k++)
            if (alike(l, i, k)) {
                done[k] = true;
                x.layers++;
            }
        s = run_class(&x);
    }
    return s;
}

const struct check check_state = {
    .name = "state",
    .summary = "recurrent mixers move the bytes of their states and do the FLOPs predicted",
    .level = LEVEL_COUNT,
    .filter = count_filter,
    .run = run,
};
