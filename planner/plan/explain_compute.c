/* Explanations of FLOPs and bytes, of the whole model over all GPUs. */
#include <string.h>

#include "planner/plan/explain_fill.h"

uint64_t explain_sequential_below(const struct problem *p)
{
    return p->layout.sequential_prefill
               ? UINT64_MAX
               : (uint64_t)p->layout.forward_passes + p->layout.backward_passes;
}

/* The prompt of an upward map that is decoded token by token. */
bool explain_is_sequential(const struct explain *e)
{
    return e->p->whole_work.upward && e->p->workload.prompt <= explain_sequential_below(e->p);
}

static void from_work(struct explain *e)
{
    explain_from_model(e);
    explain_from_schemes(e);
    explain_from_spec(e, "workload");
}

/* --- FLOPs of an op ----------------------------------------------------------------------- */

static void put_linear(struct explain *e)
{
    const struct work *w = &e->p->whole_work;
    const char *b = explain_count(e, e->plan->batch);

    if (!e->prefill) {
        if (w->token_flop[e->op] > 0)
            explain_term(e, "%s x %s [sequences x FLOP a token]", b,
                         explain_real(e, w->token_flop[e->op]));
        return;
    }
    if (w->prompt_flop[e->op] > 0 || w->last_flop[e->op] > 0)
        explain_term(
            e,
            "%s x (%s x %s + %s) [sequences x (prompt x FLOP a token, passes counted, + the last token "
            "in layers that may be skipped)]",
            b, explain_count(e, e->p->workload.prompt), explain_real(e, w->prompt_flop[e->op]),
            explain_real(e, w->last_flop[e->op]));
    if (e->op == OP_HEAD)
        explain_term(e, "%s x %s [sequences x FLOP of one position]", b,
                     explain_real(e, w->token_flop[OP_HEAD]));
}

/* Elements a query head and key multiply in this op; 0: the class has no part in it. */
static uint32_t width_of(const struct explain *e, const struct cache_row *r)
{
    bool index = r->stream == STREAM_INDEX;

    if (index != (e->op == OP_INDEXER))
        return 0;
    if (e->op == OP_VALUES)
        return e->prefill ? r->prefill_value_dim : r->value_dim;
    return e->prefill ? r->prefill_score_dim : r->score_dim;
}

static bool is_attention(enum op op)
{
    return op == OP_SCORES || op == OP_VALUES || op == OP_INDEXER;
}

static void put_prefill_class(struct explain *e, const struct read_class *c)
{
    const struct cache_row *r = &c->reader;
    uint64_t n = e->p->workload.prompt;
    bool selects = r->select_tokens && r->mixer == MIXER_LATENT && r->stream == STREAM_LATENT;
    uint64_t window = selects ? r->select_tokens : r->window_tokens;
    double pairs = work_pairs(n, window, r->mixer, r->diagonal_masked);
    uint64_t full = c->passes - c->early_passes;

    explain_term(e, "%s x 2 x %u x %u x (%s x %s", explain_count(e, e->plan->batch), r->q_heads,
                 width_of(e, r), explain_real(e, pairs), explain_count(e, full));
    if (c->early_passes)
        explain_put(e, " + %s x %s", explain_count(e, window ? u64_min(n, window) : n),
                    explain_count(e, c->early_passes));
    explain_put(
        e, ") [sequences x 2 x query heads x width x (causal pairs x passes over layers%s)]",
        c->early_passes ? " + keys of the last token x passes" : "");
}

static void put_decode_class(struct explain *e, const struct read_class *c)
{
    uint64_t keys = row_attended_tokens(&c->reader, &c->source, e->plan->decode_prompt,
                                        e->plan->decode_decoded);

    explain_term(
        e, "%s x %u x %s x 2 x %u x %u [sequences x layers x keys x 2 x query heads x width]",
        explain_count(e, e->plan->batch), c->count, explain_count(e, keys), c->reader.q_heads,
        width_of(e, &c->reader));
}

static void put_dequantize(struct explain *e)
{
    const struct fold *f = &e->p->whole;

    for (uint32_t i = 0; i < f->n_reads; i++) {
        const struct read_class *c = &f->reads[i];
        const struct cache_row *s = &c->source;
        uint64_t keys =
            row_attended_tokens(&c->reader, s, e->plan->decode_prompt, e->plan->decode_decoded);
        if (!s->k_format.dequant_flop && !(s->v_dim && s->v_format.dequant_flop))
            continue;
        explain_term(
            e,
            "%s x %u x %s x %u x (%u x %u + %u x %u) [sequences x layers x keys x heads x (K x FLOP + V x "
            "FLOP)]",
            explain_count(e, e->plan->batch), c->count, explain_count(e, keys), s->stored_heads,
            s->k_dim, s->k_format.dequant_flop, s->v_dim, s->v_format.dequant_flop);
    }
}

static void put_scheme_flop(struct explain *e)
{
    struct extra_cost cost = explain_extra(e, e->plan->decode_decoded);

    explain_term(e, "%s x %s [sequences x FLOP of the schemes]",
                 explain_count(e, e->plan->batch),
                 explain_real(e, e->prefill ? cost.prefill_flop : cost.decode_flop));
}

static void put_steps(struct explain *e)
{
    e->formula =
        "the prompt is decoded token by token: the sum over its steps, logits of the last alone";
    e->statement = true;
    explain_put(e, "%s [steps]", explain_count(e, e->p->workload.prompt));
}

static void op_flops(struct explain *e)
{
    const struct fold *f = &e->p->whole;

    from_work(e);
    if (e->prefill && explain_is_sequential(e)) {
        put_steps(e);
        return;
    }
    put_linear(e);
    for (uint32_t i = 0; i < f->n_reads && is_attention(e->op); i++) {
        if (!width_of(e, &f->reads[i].reader))
            continue;
        if (e->prefill)
            put_prefill_class(e, &f->reads[i]);
        else
            put_decode_class(e, &f->reads[i]);
    }
    if (e->op == OP_DEQUANT && !e->prefill)
        put_dequantize(e);
    if (e->op == OP_SCHEME)
        put_scheme_flop(e);
    if (!*e->put_in)
        explain_put(e, "0");
}

/* --- bytes of an op ----------------------------------------------------------------------- */

static void put_weights(struct explain *e)
{
    const struct work *w = &e->p->whole_work;
    uint64_t read = e->prefill ? w->prefill_read_bytes[e->op] : w->read_bytes[e->op];
    uint64_t tokens = e->prefill ? e->p->workload.prompt * e->plan->batch : e->plan->batch;

    if (read)
        explain_term(e, "%s [weights%s]", explain_count(e, read),
                     e->prefill ? ", passes counted" : "");
    for (uint32_t i = 0; i < w->n_experts && e->op == OP_EXPERTS; i++) {
        const struct expert_class *c = &w->experts[i];
        explain_term(e, "%s x %s [routed experts x share that %s tokens touch, top %u of %u]",
                     explain_count(e, e->prefill ? c->bytes_passes : c->bytes),
                     explain_real(e, work_expert_share(c->experts, c->top_k, tokens)),
                     explain_count(e, tokens), c->top_k, c->experts);
    }
}

static void put_prefill_cache(struct explain *e)
{
    const struct fold *f = &e->p->whole;
    uint64_t n = e->p->workload.prompt;

    for (uint32_t i = 0; i < f->n_reads && e->op == OP_SCORES; i++) {
        const struct read_class *c = &f->reads[i];
        uint64_t seen = work_prompt_keys(&c->reader, 0, n);
        explain_term(e, "%s x %s x %s [sequences x passes over layers x cache read]",
                     explain_count(e, e->plan->batch), explain_count(e, c->passes),
                     explain_count(e, row_bytes(&c->source, n, seen, &e->ck)));
    }
    if (e->op == OP_QKV)
        explain_term(e, "%s x %s x %s [sequences x prompt x cache written a token]",
                     explain_count(e, e->plan->batch), explain_count(e, n),
                     explain_count(e, fold_token_bytes(f, false, &e->ck)));
}

/* What a step reads of the cache goes to scores and values by the widths of K and V. */
static void put_decode_cache(struct explain *e)
{
    const struct fold *f = &e->p->whole;

    for (uint32_t i = 0; i < f->n_reads && is_attention(e->op); i++) {
        const struct read_class *c = &f->reads[i];
        const struct cache_row *s = &c->source;
        uint64_t n = e->plan->decode_prompt;
        uint64_t keys = row_attended_tokens(&c->reader, s, n, e->plan->decode_decoded);
        uint32_t part = e->op == OP_VALUES ? s->v_dim : s->k_dim;
        if ((c->reader.stream == STREAM_INDEX) != (e->op == OP_INDEXER) || !part)
            continue;
        explain_term(e, "%s x %u x %s x %u / %u [sequences x layers x cache read x share]",
                     explain_count(e, e->plan->batch), c->count,
                     explain_count(e, row_bytes(s, n, keys, &e->ck)), part,
                     s->k_dim + s->v_dim);
    }
    if (e->op == OP_QKV)
        explain_term(e, "%s x %s [sequences x cache written a step]",
                     explain_count(e, e->plan->batch),
                     explain_count(e, fold_decode_write_bytes(f, &e->ck) - f->state_bytes));
}

static void op_bytes(struct explain *e)
{
    struct extra_cost cost = explain_extra(e, e->plan->decode_decoded);
    const char *b = explain_count(e, e->plan->batch);

    from_work(e);
    if (e->prefill && explain_is_sequential(e)) {
        put_steps(e);
        return;
    }
    put_weights(e);
    if (e->op == OP_ELEMENTWISE && e->prefill)
        explain_term(e,
                     "%s x (%s x %s + %s) [sequences x (prompt x activations moved a token, "
                     "passes counted, + the last token in layers that may be skipped)]",
                     b, explain_count(e, e->p->workload.prompt),
                     explain_real(e, e->p->whole_work.move_bytes[0]),
                     explain_real(e, e->p->whole_work.move_bytes[1]));
    if (e->prefill)
        put_prefill_cache(e);
    else
        put_decode_cache(e);
    if (e->op == OP_STATE && e->p->whole.state_bytes)
        explain_term(e, "2 x %s x %s [read and written x sequences x states]", b,
                     explain_count(e, e->p->whole.state_bytes));
    if (e->op == OP_SCHEME && e->prefill)
        explain_term(e, "2 x %s x %s [written and read x sequences x scores]", b,
                     explain_count(e, cost.transient_prefill_bytes));
    else if (e->op == OP_SCHEME)
        explain_term(e, "%s x (%s + %s) [sequences x (read + written by the schemes)]", b,
                     explain_count(e, cost.decode_read_bytes),
                     explain_count(e, cost.decode_write_bytes));
    if (!*e->put_in)
        explain_put(e, "0");
}

/* --- sums --------------------------------------------------------------------------------- */

/* "a [qkv] + b [mlp] + ..." */
const char *explain_sum(struct explain *e, const double v[N_OPS], bool all)
{
    const char *s = "";

    for (int op = 0; op < N_OPS; op++)
        if (v[op] > 0 && (all || (op != OP_COLLECTIVE && op != OP_ELEMENTWISE)))
            s = arena_printf(e->a, "%s%s%s [%s]", s, *s ? " + " : "", explain_real(e, v[op]),
                             op_name((enum op)op));
    return *s ? s : "0";
}

static void flops(struct explain *e)
{
    explain_put(
        e, "%s",
        explain_sum(e, e->prefill ? e->plan->prefill.flop : e->plan->decode.flop, true));
    from_work(e);
}

static void prefill_bytes(struct explain *e)
{
    explain_put(e, "%s", explain_sum(e, e->plan->prefill.bytes, false));
    from_work(e);
}

/* The new token's K/V and states, and what the schemes update, of the whole batch. */
static const char *written_of(struct explain *e)
{
    struct extra_cost cost = explain_extra(e, e->plan->decode_decoded);
    const struct fold *f = &e->p->whole;

    return arena_printf(e->a, "%s x (%s [K/V of a token] + %s [states] + %s [schemes])",
                        explain_count(e, e->plan->batch),
                        explain_count(e, fold_decode_write_bytes(f, &e->ck) - f->state_bytes),
                        explain_count(e, f->state_bytes),
                        explain_count(e, cost.decode_write_bytes));
}

static void bytes_read(struct explain *e)
{
    explain_put(e, "max(0, %s - %s [written])", explain_sum(e, e->plan->decode.bytes, false),
                written_of(e));
    from_work(e);
}

static void bytes_written(struct explain *e)
{
    explain_put(e, "%s", written_of(e));
    from_work(e);
}

static void cache_read(struct explain *e)
{
    const struct fold *f = &e->p->whole;

    explain_put(e, "%s x (", explain_count(e, e->plan->batch));
    explain_put(e, "%s [states]", explain_count(e, f->state_bytes));
    for (uint32_t i = 0; i < f->n_reads; i++) {
        const struct read_class *c = &f->reads[i];
        uint64_t n = e->plan->decode_prompt;
        uint64_t keys = row_attended_tokens(&c->reader, &c->source, n, e->plan->decode_decoded);
        explain_put(e, " + %u x %s [layers x bytes of %s keys]", c->count,
                    explain_count(e, row_bytes(&c->source, n, keys, &e->ck)),
                    explain_count(e, keys));
    }
    explain_put(e, ")");
    from_work(e);
}

static void batch(struct explain *e)
{
    explain_from_spec(e, "workload.batch");
    e->formula = e->p->workload.batch ? "workload.batch" : "as many as fit, at least 1";
    explain_put(e, "%s", explain_count(e, e->plan->batch));
}

static void context(struct explain *e)
{
    explain_put(e, "%s [prompt] + floor(%s [output] / 2)",
                explain_count(e, e->p->workload.prompt),
                explain_count(e, e->p->workload.output));
    explain_from_spec(e, "workload");
}

static const char *units_of(struct explain *e)
{
    const struct layout *l = &e->p->layout;
    uint32_t often = 0;

    for (uint32_t i = 0; i < l->n_layers; i++)
        often += l->passes[i] > 1;
    return arena_printf(
        e->a, "(%u x (%u + 3 x %u) [layers that iterate] + %u x 3 [others]) / %u", often,
        l->forward_passes, l->backward_passes, l->n_layers - often, l->n_layers);
}

static void forward_units(struct explain *e)
{
    explain_put(e, "%s", units_of(e));
    explain_from_schemes(e);
}

static void relative(struct explain *e)
{
    explain_put(e, "%s / 3", units_of(e));
    explain_from_schemes(e);
}

static void passes(struct explain *e)
{
    explain_from_model(e);
    explain_from_schemes(e);
}

/* --- the table ---------------------------------------------------------------------------- */

static const char flop_rule[] =
    "2 x multiplications: FLOP a token x tokens, and causal query-key pairs x width";
static const char bytes_rule[] = "weights once a pass, the cache once a sequence";

const struct explain_rule explain_compute_rules[] = {
    {"compute.batch", "sequences", "", batch},
    {"compute.decode_context_tokens", "tokens",
     "the mean context of the decode: prompt and half the output", context},
    {"compute.prefill.flops", "FLOP", "sum over ops", flops},
    {"compute.prefill.bytes", "bytes",
     "sum over ops, what goes between GPUs and the activations apart", prefill_bytes},
    {"compute.prefill.passes_per_layer", "",
     "for each layer, how often it runs over the prompt", passes},
    {"compute.prefill.by_op.*.flops", "FLOP", flop_rule, op_flops},
    {"compute.prefill.by_op.*.bytes", "bytes", bytes_rule, op_bytes},
    {"compute.decode.flops", "FLOP", "sum over ops", flops},
    {"compute.decode.bytes_read", "bytes", "sum over ops, less what is written", bytes_read},
    {"compute.decode.bytes_written", "bytes",
     "what a step appends and updates, of all sequences", bytes_written},
    {"compute.decode.cache_bytes_read", "bytes",
     "what a step reads of the cache, of all sequences", cache_read},
    {"compute.decode.by_op.*.flops", "FLOP", flop_rule, op_flops},
    {"compute.decode.by_op.*.bytes", "bytes", bytes_rule, op_bytes},
    {"compute.training.forward_units", "",
     "mean over layers of forward + 2 x backward passes; 3 = a plain layer", forward_units},
    {"compute.training.relative_to_plain", "", "forward units / 3", relative},
    {NULL, NULL, NULL, NULL},
};
