/* FLOPs and weight traffic of a forward pass. One loop over the weight table builds the sums;
 * the rest is arithmetic. */
#include "planner/cost/work.h"

#include "planner/base/unit.h"

static const char *const op_names[N_OPS] = {
    "qkv",   "indexer",     "scores", "values", "output",     "state",      "mlp",    "experts",
    "other", "elementwise", "head",   "scheme", "dequantize", "collective", "launch",
};

const char *op_name(enum op op)
{
    return op_names[op];
}

static enum op op_of(enum part p)
{
    switch (p) {
    case PART_Q:
    case PART_K:
    case PART_V:
    case PART_LATENT: return OP_QKV;
    case PART_INDEXER: return OP_INDEXER;
    case PART_O: return OP_OUT;
    case PART_STATE: return OP_STATE;
    case PART_MLP: return OP_MLP;
    case PART_ROUTER:
    case PART_EXPERT:
    case PART_SHARED: return OP_EXPERTS;
    case PART_HEAD: return OP_HEAD;
    case PART_EMBED:
    case PART_POSITION:
    case PART_NORM:
    case PART_OTHER:
    case PART_VISION:
    case N_PARTS: return OP_OTHER;
    }
    return OP_OTHER;
}

double work_state_flop(const struct state *s, uint32_t hidden)
{
    double conv = 2.0 * s->conv_kernel;

    switch (s->kind) {
    case STATE_NONE: return 0;
    case STATE_MAMBA1: return 5.0 * s->inner * s->state_dim + conv * s->inner;
    case STATE_MAMBA2: {
        double inner = (double)s->heads * s->head_dim;
        return 5.0 * inner * s->state_dim + conv * (inner + 2.0 * s->groups * s->state_dim);
    }
    case STATE_GDN:
        return 7.0 * s->v_heads * s->k_dim * s->v_dim +
               conv * (2.0 * s->k_heads * s->k_dim + (double)s->v_heads * s->v_dim);
    case STATE_KDA:
        return 7.0 * s->heads * s->head_dim * s->head_dim + conv * 3.0 * s->heads * s->head_dim;
    case STATE_LIGHTNING:
    case STATE_RETENTION: return 5.0 * s->heads * s->head_dim * s->head_dim;
    case STATE_SHORTCONV: return (conv + 2.0) * hidden;
    case STATE_GMU: return 2.0 * s->inner;
    }
    return 0;
}

static bool divided(enum split s)
{
    return s != SPLIT_NONE;
}

/* Multiplications of one tensor a token on one rank. */
static double tensor_flop(const struct tensor *t, const struct work_in *in, uint32_t kv_heads)
{
    double all = 2.0 * (double)t->out * (double)t->in * (double)t->active;

    if (t->vector || !t->active || !divided(t->split) || in->slice.tp == 1)
        return t->vector || !t->active ? 0 : all;
    if (t->split == SPLIT_VOCAB) /* as its bytes: whole rows */
        return all / (double)t->out * (double)ck_ceil_div(t->out, in->slice.tp);
    if (t->split == SPLIT_KV)
        return all * shard_kv_heads(kv_heads, in->slice.tp) / kv_heads;
    return all / in->slice.tp;
}

struct builder {
    const struct work_in *in;
    struct work *w;
    struct ck *ck;
    uint32_t layer;
    bool host; /* the layer is offloaded */
    uint64_t layer_bytes;
};

static struct expert_class *expert_class_of(struct work *w, const struct ffn *f)
{
    for (uint32_t i = 0; i < w->n_experts; i++)
        if (w->experts[i].experts == f->experts && w->experts[i].top_k == f->top_k)
            return &w->experts[i];
    if (w->n_experts == WORK_EXPERT_CLASSES)
        return &w->experts[WORK_EXPERT_CLASSES - 1];
    w->experts[w->n_experts] = (struct expert_class){.experts = f->experts, .top_k = f->top_k};
    return &w->experts[w->n_experts++];
}

static void add_flop(struct builder *b, enum part part, enum op op, double flop)
{
    const struct layout *l = b->in->layout;
    struct work *w = b->w;
    double passes = l->passes[b->layer];
    bool kv_only = part == PART_K || part == PART_V || part == PART_LATENT;

    w->token_flop[op] += flop;
    if (b->layer < l->exit_layer || (b->layer == l->exit_layer && kv_only))
        w->prompt_flop[op] += passes * flop;
    else
        w->last_flop[op] += passes * flop;
}

/* What a step reads of a tensor: its bytes, or those of a copy. */
static uint64_t step_bytes(struct builder *b, const struct tensor *t,
                           const struct weight_format *f, struct shard s)
{
    uint64_t wide;

    if (!t->absorbed || !b->in->widens || !b->in->widens(f))
        return weights_tensor_bytes(t, f, s, b->ck);
    wide = weights_tensor_bytes(t, weight_format_find("bf16"), s, b->ck);
    b->w->copied_bytes = ck_add(b->ck, b->w->copied_bytes, wide);
    return wide;
}

static void add_layer_tensor(struct builder *b, const struct tensor *t)
{
    const struct layout *l = b->in->layout;
    const struct layer *layer = &l->layers[b->layer];
    const struct weight_format *f = weights_format_of(l->model, t, (int)b->layer, b->in->asked);
    struct shard s = {b->in->slice.tp, b->in->ep,
                      layer->attn.kv_heads ? layer->attn.kv_heads : 1};
    uint64_t bytes = weights_tensor_bytes(t, f, s, b->ck);
    uint64_t passes = l->passes[b->layer];
    enum op op = op_of(t->part);

    b->layer_bytes = ck_add(b->ck, b->layer_bytes, bytes);
    add_flop(b, t->part, op, tensor_flop(t, b->in, s.kv_heads));
    if (t->part == PART_EXPERT) {
        struct expert_class *c = expert_class_of(b->w, &layer->ffn);
        c->bytes = ck_add(b->ck, c->bytes, bytes);
        c->bytes_passes = ck_add(b->ck, c->bytes_passes, ck_mul(b->ck, bytes, passes));
    } else if (!t->idle) {
        b->w->read_bytes[op] = ck_add(b->ck, b->w->read_bytes[op], step_bytes(b, t, f, s));
        b->w->prefill_read_bytes[op] =
            ck_add(b->ck, b->w->prefill_read_bytes[op], ck_mul(b->ck, bytes, passes));
    }
}

/* Bytes of activations that the kernels between the products move for a prompt token: each
 * reads its input and writes its output once in 16 bits; the residual stream stays in the L2
 * cache. Recurrent mixers and the sum over experts are left out. In a decode step these kernels
 * take as long as a launch, which is counted (public kernel timings, tests/data/kernels.csv).
 */
static double layer_move_bytes(const struct model *m, const struct layer *l, struct slice slice,
                               bool owns_kv)
{
    const struct attention *a = &l->attn;
    const struct ffn *f = &l->ffn;
    double k_heads = owns_kv ? a->kv_heads : 0, rotated = 0;
    double inner = f->intermediate + (double)f->top_k * f->moe_intermediate +
                   (f->experts ? f->shared_intermediate : 0);

    if (a->mixer == MIXER_LATENT)
        rotated = ((double)a->heads + 1) * a->rope_dim;
    else if (a->mixer != MIXER_NONE)
        rotated = (a->heads + k_heads) * a->k_dim;
    if (m->position_rows || m->alibi)
        rotated = 0;
    else if (a->qk_norm != QK_NORM_NONE)
        rotated *= 2;
    return 2 * (2.0 * m->hidden * l->norms + 2 * rotated / slice.tp +
                (f->gated ? 3 : 2) * inner / slice.tp);
}

static void add_layer(struct builder *b)
{
    struct tensor t[LAYER_TENSORS_MAX];
    const struct layout *l = b->in->layout;
    const struct layer *layer = &l->layers[b->layer];
    struct work *w = b->w;
    size_t n = weights_layer(l->model, layer, layout_owns_kv(l, b->layer), t);

    b->layer_bytes = 0;
    b->host = b->layer < b->in->offload_layers;
    for (size_t i = 0; i < n; i++)
        add_layer_tensor(b, &t[i]);
    add_flop(b, PART_STATE, OP_STATE,
             work_state_flop(&layer->state, l->model->hidden) / b->in->slice.tp);
    w->move_bytes[b->layer >= l->exit_layer] +=
        l->passes[b->layer] *
        layer_move_bytes(l->model, layer, b->in->slice, layout_owns_kv(l, b->layer));
    w->weights_bytes = ck_add(b->ck, w->weights_bytes, b->host ? 0 : b->layer_bytes);
    if (b->host) {
        uint64_t moved = ck_mul(b->ck, b->layer_bytes, l->passes[b->layer]);
        w->offloaded_bytes = ck_add(b->ck, w->offloaded_bytes, b->layer_bytes);
        w->offloaded_prefill_bytes = ck_add(b->ck, w->offloaded_prefill_bytes, moved);
        w->largest_layer_bytes = u64_max(w->largest_layer_bytes, b->layer_bytes);
    }
    w->layers++;
    w->layer_passes += l->passes[b->layer];
    /* one forward and a backward of twice its cost; iterated slices pay m forwards and b of
     * both */
    w->forward_units +=
        l->passes[b->layer] > 1 ? l->forward_passes + 3.0 * l->backward_passes : 3.0;
}

static void add_outside(struct builder *b)
{
    struct tensor t[MODEL_TENSORS_MAX];
    const struct model *m = b->in->layout->model;
    size_t n = weights_outside(m, t);

    for (size_t i = 0; i < n; i++) {
        const struct tensor *x = &t[i];
        bool at_end = x->part == PART_HEAD || x->part == PART_NORM;
        bool tied_copy =
            x->part == PART_HEAD && x->tied && b->in->last_stage && !b->in->first_stage;
        struct shard s = {b->in->slice.tp, b->in->ep, 1};
        struct tensor copy = *x;
        if (at_end ? !b->in->last_stage : !b->in->first_stage)
            continue;
        copy.tied =
            x->tied && !tied_copy; /* the last stage needs its own table for a tied head */
        uint64_t bytes =
            weights_tensor_bytes(&copy, weights_format_of(m, x, -1, b->in->asked), s, b->ck);
        b->w->weights_bytes = ck_add(b->ck, b->w->weights_bytes, bytes);
        if (x->part == PART_HEAD) {
            copy.tied = false; /* a tied head is read all the same */
            b->w->read_bytes[OP_HEAD] =
                ck_add(b->ck, b->w->read_bytes[OP_HEAD],
                       weights_tensor_bytes(&copy, weights_format_of(m, x, -1, b->in->asked), s,
                                            b->ck));
            b->w->token_flop[OP_HEAD] += tensor_flop(x, b->in, 1);
        } else if (x->part == PART_OTHER || x->part == PART_NORM) {
            double flop = tensor_flop(x, b->in, 1);
            b->w->token_flop[OP_OTHER] += flop;
            b->w->prompt_flop[OP_OTHER] += flop;
            b->w->read_bytes[OP_OTHER] = ck_add(b->ck, b->w->read_bytes[OP_OTHER], bytes);
            b->w->prefill_read_bytes[OP_OTHER] =
                ck_add(b->ck, b->w->prefill_read_bytes[OP_OTHER], bytes);
        }
    }
    b->w->samples = b->in->last_stage;
}

void work_build(const struct work_in *in, struct work *out, struct ck *ck)
{
    struct builder b = {.in = in, .w = out, .ck = ck};
    const struct layout *l = in->layout;

    *out = (struct work){0};
    for (b.layer = in->slice.first; b.layer < in->slice.last; b.layer++) {
        add_layer(&b);
        out->upward |= l->passes[b.layer] > 1;
    }
    add_outside(&b);
    out->prefill_read_bytes[OP_HEAD] = out->read_bytes[OP_HEAD];
}

double work_expert_share(uint32_t experts, uint32_t top_k, uint64_t tokens)
{
    if (!experts || top_k >= experts)
        return 1;
    return 1 - unit_powi(1 - (double)top_k / experts, tokens);
}

/* Sum over i = 1..n of min(i, w): the keys of a window. */
static double clipped_sum(double n, double w)
{
    return n <= w ? n * (n + 1) / 2 : w * (w + 1) / 2 + (n - w) * w;
}

double work_pairs(uint64_t n, uint64_t window, enum mixer mixer, bool diagonal_masked)
{
    double tokens = (double)n, w = (double)window;

    if (diagonal_masked)
        tokens = n ? tokens - 1 : 0;
    if (!window)
        return tokens * (tokens + 1) / 2;
    if (mixer == MIXER_CHUNKED) {
        double whole = (double)(n / window), rest = (double)(n % window);
        return whole * w * (w + 1) / 2 + rest * (rest + 1) / 2 -
               (diagonal_masked ? (double)n : 0);
    }
    return clipped_sum(tokens, w);
}

static void add_attention(struct op_tally *t, const struct cache_row *r, double pairs,
                          bool prefill)
{
    double scores = 2.0 * r->q_heads * (prefill ? r->prefill_score_dim : r->score_dim);
    double values = 2.0 * r->q_heads * (prefill ? r->prefill_value_dim : r->value_dim);

    if (r->stream == STREAM_INDEX) {
        t->flop[OP_INDEXER] += pairs * scores;
        return;
    }
    t->flop[OP_SCORES] += pairs * scores;
    t->flop[OP_VALUES] += pairs * values;
}

double work_dequant_flop(const struct cache_row *r)
{
    return (double)r->stored_heads * ((double)r->k_dim * r->k_format.dequant_flop +
                                      (double)r->v_dim * r->v_format.dequant_flop);
}

void work_decode_weights(const struct work *w, uint64_t tokens, struct op_tally *t)
{
    for (int op = 0; op < N_OPS; op++)
        t->bytes[op] += (double)w->read_bytes[op];
    for (uint32_t i = 0; i < w->n_experts; i++)
        t->bytes[OP_EXPERTS] +=
            (double)w->experts[i].bytes *
            work_expert_share(w->experts[i].experts, w->experts[i].top_k, tokens);
}

void work_prefill_weights(const struct work *w, uint64_t tokens, struct op_tally *t)
{
    for (int op = 0; op < N_OPS; op++)
        t->bytes[op] += (double)w->prefill_read_bytes[op];
    for (uint32_t i = 0; i < w->n_experts; i++)
        t->bytes[OP_EXPERTS] +=
            (double)w->experts[i].bytes_passes *
            work_expert_share(w->experts[i].experts, w->experts[i].top_k, tokens);
}

void work_decode(const struct work *w, const struct fold *f, uint64_t n, uint64_t decoded,
                 uint64_t batch, struct op_tally *t)
{
    double b = (double)batch;
    struct ck ck = {0};

    for (int op = 0; op < N_OPS; op++)
        t->flop[op] += b * w->token_flop[op];
    work_decode_weights(w, batch, t);
    for (uint32_t i = 0; i < f->n_reads; i++) {
        const struct read_class *c = &f->reads[i];
        uint64_t keys = row_attended_tokens(&c->reader, &c->source, n, decoded);
        uint64_t held = f->slice.cp > 1 ? ck_ceil_div(keys, f->slice.cp) : keys;
        double bytes = (double)row_bytes(&c->source, n, held, &ck) * c->count * b;
        add_attention(t, &c->reader, (double)held * c->count * b, false);
        t->flop[OP_DEQUANT] += (double)held * c->count * b * work_dequant_flop(&c->source);
        if (c->reader.stream == STREAM_INDEX) {
            t->bytes[OP_INDEXER] += bytes;
        } else {
            double k_share = c->source.k_dim + c->source.v_dim;
            k_share = k_share > 0 ? c->source.k_dim / k_share : 1;
            t->bytes[OP_SCORES] += c->source.v_dim ? bytes * k_share : bytes;
            t->bytes[OP_VALUES] += c->source.v_dim ? bytes * (1 - k_share) : 0;
        }
    }
    /* K, V and states are written; states were read too */
    t->bytes[OP_QKV] += b * (double)(fold_decode_write_bytes(f, &ck) - f->state_bytes);
    t->bytes[OP_STATE] += 2 * b * (double)f->state_bytes;
}

enum { STEPS_EXACT = 64 };

/* Prompts no longer than the passes of an upward map are decoded token by token: every step
 * reads the weights. Long ones (use_sequential) are n times the step at the mean context, exact
 * where the cost is affine in it. */
static void prefill_by_decode(const struct work *w, const struct fold *f, uint64_t n,
                              uint64_t batch, struct op_tally *t)
{
    struct op_tally mean = {{0}, {0}};

    if (n <= STEPS_EXACT) {
        for (uint64_t i = 0; i < n; i++)
            work_decode(w, f, 0, i, batch, t);
    } else {
        work_decode(w, f, 0, (n - 1) / 2, batch, &mean);
        for (int op = 0; op < N_OPS; op++) {
            t->flop[op] += mean.flop[op] * (double)n;
            t->bytes[op] += mean.bytes[op] * (double)n;
        }
    }
    /* logits of the last token only */
    t->flop[OP_HEAD] -= (double)batch * w->token_flop[OP_HEAD] * (double)(n - 1);
}

uint64_t work_prompt_keys(const struct cache_row *reader, uint64_t from, uint64_t to)
{
    uint64_t window = reader->window_tokens, masked = reader->diagonal_masked;
    uint64_t first = 0, end = to > masked ? to - masked : 0;

    if (window && reader->mixer == MIXER_CHUNKED)
        first = from / window * window;
    else if (window && from + 1 > window + masked)
        first = from + 1 - window - masked;
    return end > first ? end - first : 0;
}

/* FLOP of expanding one latent to the keys and values of every head (kv_b). */
static double expand_flop(const struct cache_row *r)
{
    double rank = (double)r->k_dim - r->rope_dim;
    double head = (double)r->prefill_score_dim - r->rope_dim + r->prefill_value_dim;

    return r->stream == STREAM_LATENT ? 2 * rank * head * r->q_heads : 0;
}

/* Attention of tokens [from, to) of a prompt over it, in the rows of one class. Latents of the
 * tokens before them are expanded again, since only latents were kept. source: vLLM,
 * v1/attention/backends/mla/common.py, _compute_prefill_context */
static void add_prompt_reads(const struct fold *f, const struct read_class *c,
                             struct work_part part, struct op_tally *t)
{
    const struct cache_row *r = &c->reader;
    bool selects = r->select_tokens && r->mixer == MIXER_LATENT && r->stream == STREAM_LATENT;
    uint64_t window = selects ? r->select_tokens : r->window_tokens, to = part.to;
    double pairs = work_pairs(to, window, r->mixer, r->diagonal_masked);
    double last = part.last ? (double)(window ? u64_min(to, window) : to) : 0;
    uint64_t full = c->passes - c->early_passes, passes = part.last ? c->passes : full;
    struct ck ck = {0};

    if (part.from)
        pairs -= work_pairs(part.from, window, r->mixer, r->diagonal_masked);
    add_attention(t, r,
                  part.batch * (pairs / f->slice.cp * (double)full +
                                last / f->slice.cp * (double)c->early_passes),
                  true);
    t->flop[OP_QKV] +=
        part.batch * (double)passes * (double)part.from * expand_flop(r) / f->slice.cp;
    uint64_t seen = work_prompt_keys(r, part.from, to);
    t->bytes[OP_SCORES] += part.batch * (double)passes *
                           (double)row_bytes(&c->source, to, seen, &ck) / f->slice.cp;
}

void work_prompt(const struct work *w, const struct fold *f, struct work_part part,
                 struct op_tally *t)
{
    double b = part.batch, tokens = (double)(part.to - part.from);
    struct ck ck = {0};

    for (int op = 0; op < N_OPS; op++)
        t->flop[op] += b * (tokens * w->prompt_flop[op] + (part.last ? w->last_flop[op] : 0));
    if (part.last)
        t->flop[OP_HEAD] += b * w->token_flop[OP_HEAD];
    t->bytes[OP_ELEMENTWISE] +=
        b * (tokens * w->move_bytes[0] + (part.last ? w->move_bytes[1] : 0));
    for (uint32_t i = 0; i < f->n_reads; i++)
        add_prompt_reads(f, &f->reads[i], part, t);
    t->bytes[OP_QKV] += b * tokens * (double)fold_token_bytes(f, false, &ck) / f->slice.cp;
    t->bytes[OP_STATE] += 2 * b * (double)f->state_bytes;
}

void work_prefill(const struct work *w, const struct fold *f, uint64_t n, uint64_t batch,
                  uint64_t sequential, struct op_tally *t)
{
    if (!n)
        return;
    if (w->upward && n <= sequential) {
        prefill_by_decode(w, f, n, batch, t);
        return;
    }
    work_prefill_weights(w, batch > UINT64_MAX / n ? UINT64_MAX : n * batch, t);
    work_prompt(w, f, (struct work_part){0, n, (double)batch, true}, t);
}
