/* One decoder layer of a GGUF file: what it holds is told by its tensors, how it attends by the
 * keys and the table of architectures. */
#include <inttypes.h>
#include <string.h>

#include "planner/model/gguf_read.h"

static bool has(struct gguf_reader *r, uint32_t i, const char *name)
{
    return gguf_tensor(r, i, name) != NULL;
}

/* --- attention ------------------------------------------------------------------------------
 */

/* Whether layer i slides: a list of bools, a period as a key, or what the code sets.
 * llama_hparams::set_swa_pattern: one of `period` is full, the last of them unless
 * dense_first; period 0: all slide. */
static bool slides(struct gguf_reader *r, uint32_t i)
{
    static const char key[] = "attention.sliding_window_pattern";
    const struct gguf_pair *p =
        gguf_find(r->g->parts, arena_printf(r->a, "%s.%s", r->arch_name, key));
    uint32_t period = r->arch->period;

    if (p && p->list && p->items)
        return i < p->n && p->items[i] != 0;
    if (period == GGUF_EVERY_LAYER_SLIDES)
        return true;
    if (p)
        period = gguf_number(r, key, i, period);
    else if (period == 0)
        return false;
    if (period == 0)
        return true;
    return i % period != (r->arch->dense_first ? 0 : period - 1);
}

static void read_window(struct gguf_reader *r, uint32_t i, struct attention *a)
{
    uint32_t window = gguf_number(r, "attention.sliding_window", 0, r->arch->window);

    a->mixer = MIXER_FULL;
    if (!window || !slides(r, i))
        return;
    a->mixer = r->arch->chunked ? MIXER_CHUNKED : MIXER_SLIDING;
    a->window_tokens = window;
}

static void read_indexer(struct gguf_reader *r, uint32_t i, struct attention *a)
{
    a->index_dim = gguf_number(r, "attention.indexer.key_length", 0, 0);
    if (!a->index_dim)
        return;
    a->index_heads = gguf_number(r, "attention.indexer.head_count", 0, 0);
    a->index_topk = gguf_number(r, "attention.indexer.top_k", 0, 0);
    a->index_shared =
        !has(r, i, "indexer.attn_k.weight") && !has(r, i, "indexer.k_norm.weight");
}

/* Files with the *_mla keys keep one latent a token; older ones without them are run with the
 * heads expanded, as plain attention. */
static bool read_latent(struct gguf_reader *r, uint32_t i, struct attention *a)
{
    uint32_t k = gguf_number(r, "attention.key_length_mla", 0, 0);

    if (!k || !has(r, i, "attn_kv_a_mqa.weight"))
        return false;
    a->mixer = MIXER_LATENT;
    a->kv_heads = a->heads;
    a->kv_lora_rank = gguf_number(r, "attention.kv_lora_rank", 0, 0);
    a->rope_dim = gguf_number(r, "rope.dimension_count", 0, 0);
    a->q_lora_rank = gguf_dim(r, i, "attn_q_a.weight", 1);
    a->k_dim = k;
    a->v_dim = gguf_number(r, "attention.value_length_mla", 0, 0);
    a->nope_dim = k > a->rope_dim ? k - a->rope_dim : 0;
    read_indexer(r, i, a);
    return true;
}

static void read_extras(struct gguf_reader *r, uint32_t i, struct attention *a)
{
    bool fused = has(r, i, "attn_qkv.bias");
    uint64_t q = (uint64_t)a->heads * a->k_dim;
    uint32_t norm = gguf_dim(r, i, "attn_q_norm.weight", 0);

    a->q_bias = fused || has(r, i, "attn_q.bias");
    a->k_bias = fused || has(r, i, "attn_k.bias");
    a->v_bias = fused || has(r, i, "attn_v.bias");
    a->o_bias = has(r, i, "attn_output.bias");
    a->sinks = has(r, i, "attn_sinks.weight") || has(r, i, "attn_sinks");
    a->output_gate = q && gguf_dim(r, i, "attn_q.weight", 1) == 2 * q;
    a->k_eq_v = has(r, i, "attn_k.weight") && !has(r, i, "attn_v.weight");
    a->qk_norm = !norm ? QK_NORM_NONE : norm == a->k_dim ? QK_NORM_HEAD : QK_NORM_FULL;
}

static void read_attention(struct gguf_reader *r, uint32_t i, struct attention *a)
{
    uint32_t heads = gguf_number(r, "attention.head_count", i, 0);
    uint32_t size = heads ? r->m->hidden / heads : 0;

    *a = (struct attention){.mixer = MIXER_NONE, .kv_source = i};
    if (!has(r, i, "attn_q.weight") && !has(r, i, "attn_qkv.weight") &&
        !has(r, i, "attn_q_b.weight"))
        return;
    a->heads = heads;
    a->kv_heads = gguf_number(r, "attention.head_count_kv", i, heads);
    if (!heads || !a->kv_heads) {
        *a = (struct attention){.mixer = MIXER_NONE, .kv_source = i};
        return;
    }
    if (read_latent(r, i, a))
        return;
    read_window(r, i, a);
    a->k_dim = gguf_number(r, "attention.key_length", 0, size);
    a->v_dim = gguf_number(r, "attention.value_length", 0, size);
    if (a->mixer != MIXER_FULL) {
        a->k_dim = gguf_number(r, "attention.key_length_swa", 0, a->k_dim);
        a->v_dim = gguf_number(r, "attention.value_length_swa", 0, a->v_dim);
    }
    read_extras(r, i, a);
}

/* --- recurrent state ------------------------------------------------------------------------
 */

static uint32_t divide(uint32_t a, uint32_t b)
{
    return b ? a / b : 0;
}

/* Gated delta nets keep the value heads in time_step_rank and the key heads in group_count. */
static struct state delta_net(uint32_t inner, uint32_t n, uint32_t groups, uint32_t rank)
{
    return (struct state){.kind = STATE_GDN,
                          .k_heads = groups,
                          .k_dim = n,
                          .v_heads = rank,
                          .v_dim = divide(inner, rank)};
}

static bool is_delta_net(const struct gguf_reader *r)
{
    return !strcmp(r->arch_name, "qwen3next") || !strcmp(r->arch_name, "qwen35") ||
           !strcmp(r->arch_name, "qwen35moe");
}

static struct state read_ssm(struct gguf_reader *r, uint32_t i)
{
    uint32_t inner = gguf_number(r, "ssm.inner_size", 0, 0);
    uint32_t n = gguf_number(r, "ssm.state_size", 0, 0);
    uint32_t groups = gguf_number(r, "ssm.group_count", 0, 0);
    uint32_t rank = gguf_number(r, "ssm.time_step_rank", 0, 0);
    struct state s = {.kind = STATE_NONE};

    if (has(r, i, "ssm_conv1d_q.weight"))
        s = (struct state){.kind = STATE_KDA,
                           .heads = gguf_number(r, "attention.head_count", i, 0),
                           .head_dim = gguf_number(r, "kda.head_dim", 0, 0)};
    else if (is_delta_net(r))
        s = delta_net(inner, n, groups, rank);
    else if (has(r, i, "ssm_x.weight"))
        s = (struct state){.kind = STATE_MAMBA1,
                           .inner = inner,
                           .state_dim = n,
                           .dt_rank = rank,
                           .dtbc_norm = has(r, i, "ssm_dt_norm.weight")};
    else
        s = (struct state){.kind = STATE_MAMBA2,
                           .heads = rank,
                           .head_dim = divide(inner, rank),
                           .state_dim = n,
                           .groups = groups,
                           .no_gate_norm = !has(r, i, "ssm_norm.weight")};
    s.conv_kernel = gguf_number(r, "ssm.conv_kernel", 0, 0);
    s.fp32_state = true;
    return s;
}

/* Delta nets replace attention, whatever the names of their projections. */
static void read_state(struct gguf_reader *r, uint32_t i, struct layer *l)
{
    if (has(r, i, "shortconv.conv.weight")) {
        l->state = (struct state){.kind = STATE_SHORTCONV,
                                  .conv_kernel = gguf_number(r, "shortconv.l_cache", 0, 0)};
    } else if (has(r, i, "ssm_conv1d.weight") || has(r, i, "ssm_conv1d_q.weight")) {
        l->state = read_ssm(r, i);
        if (l->state.kind == STATE_GDN || l->state.kind == STATE_KDA)
            l->attn = (struct attention){.mixer = MIXER_NONE, .kv_source = i};
    }
}

/* --- feed-forward ---------------------------------------------------------------------------
 */

/* One matrix for all experts; files of before April 2024 have one for each. */
static void read_experts(struct gguf_reader *r, uint32_t i, struct ffn *f)
{
    bool apart = has(r, i, "ffn_down.0.weight");
    const char *down = apart ? "ffn_down.0.weight" : "ffn_down_exps.weight";

    f->experts = apart ? gguf_number(r, "expert_count", 0, 0) : gguf_dim(r, i, down, 2);
    if (!f->experts)
        return;
    f->top_k = gguf_number(r, "expert_used_count", 0, 0);
    f->moe_intermediate = gguf_dim(r, i, down, 0);
    f->gated =
        apart || has(r, i, "ffn_gate_exps.weight") || has(r, i, "ffn_gate_up_exps.weight");
    f->expert_bias = has(r, i, "ffn_down_exps.bias");
    f->router_bias = has(r, i, "exp_probs_b.bias") || has(r, i, "ffn_gate_inp.bias");
    f->shared_intermediate = gguf_dim(r, i, "ffn_down_shexp.weight", 0);
    f->shared_gate = f->shared_intermediate && has(r, i, "ffn_gate_inp_shexp.weight");
}

static void read_ffn(struct gguf_reader *r, uint32_t i, struct ffn *f)
{
    uint32_t up = gguf_dim(r, i, "ffn_up.weight", 1);

    read_experts(r, i, f);
    f->intermediate = gguf_dim(r, i, "ffn_down.weight", 0);
    if (!f->intermediate)
        return;
    /* some keep gate and up in one matrix of twice the width */
    f->gated = has(r, i, "ffn_gate.weight") || up == 2 * (uint64_t)f->intermediate;
    f->bias = has(r, i, "ffn_down.bias");
}

/* --- the layer ------------------------------------------------------------------------------
 */

static uint32_t count_norms(struct gguf_reader *r, uint32_t i)
{
    static const char *const names[] = {"attn_norm.weight",     "attn_norm_2.weight",
                                        "ffn_norm.weight",      "post_attention_norm.weight",
                                        "post_ffw_norm.weight", "attn_post_norm.weight",
                                        "ffn_post_norm.weight", "layer_output_norm.weight"};
    uint32_t n = 0;

    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        n += gguf_dim(r, i, names[k], 0) == r->m->hidden;
    return n;
}

void gguf_read_layer(struct gguf_reader *r, uint32_t i)
{
    struct layer *l = &r->m->layers[i];

    *l = (struct layer){.norms = count_norms(r, i)};
    read_attention(r, i, &l->attn);
    read_state(r, i, l);
    read_ffn(r, i, &l->ffn);
}

/* Gemma 3n and 4: the layers behind the first ones read the last of their kind. */
void gguf_share_kv(struct gguf_reader *r)
{
    struct model *m = r->m;
    uint32_t shared = gguf_number(r, "attention.shared_kv_layers", 0, 0), own = m->n_layers;

    if (r->arch->kv_layers && r->arch->kv_layers < own)
        own = r->arch->kv_layers;
    else if (shared < own)
        own -= shared;
    for (uint32_t i = own; i < m->n_layers; i++) {
        uint32_t s = own;

        while (s > 0 && m->layers[s - 1].attn.mixer != m->layers[i].attn.mixer)
            s--;
        if (s > 0)
            m->layers[i].attn.kv_source = s - 1;
        m->keeps_unused_kv |= has(r, i, "attn_k.weight");
    }
}
