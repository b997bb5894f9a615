/* Widths and kernel arguments of recurrent mixers. */
#include "validate/mixer.h"

#include "planner/base/ck.h"

/* --- shapes ---------------------------------------------------------------------------------
 */

static bool divide(uint32_t *n, uint32_t by)
{
    bool whole = *n % by == 0;

    *n /= by;
    return whole;
}

bool mixer_on_rank(const struct state *s, uint32_t tp, struct state *out)
{
    bool whole;

    *out = *s;
    if (tp == 1)
        return true;
    whole = divide(&out->inner, tp) && divide(&out->heads, tp) && divide(&out->groups, tp) &&
            divide(&out->k_heads, tp) && divide(&out->v_heads, tp);
    return whole && s->kind != STATE_SHORTCONV; /* whose width is that of the stream */
}

struct dims { /* of the scan and the convolution */
    enum scan_kind scan;
    bool scans;
    uint32_t heads, k_heads, k_dim, v_dim, channels;
};

static struct dims dims_of(const struct state *s, uint32_t hidden)
{
    uint32_t width = s->heads * s->head_dim;

    switch (s->kind) {
    case STATE_MAMBA1:
        return (struct dims){SCAN_MAMBA1, true, 1, 1, s->state_dim, s->inner, s->inner};
    case STATE_MAMBA2:
        return (struct dims){SCAN_MAMBA2,
                             true,
                             s->heads,
                             s->groups,
                             s->state_dim,
                             s->head_dim,
                             width + 2 * s->groups * s->state_dim};
    case STATE_GDN:
        return (struct dims){SCAN_GDN,
                             true,
                             s->v_heads,
                             s->k_heads,
                             s->k_dim,
                             s->v_dim,
                             2 * s->k_heads * s->k_dim + s->v_heads * s->v_dim};
    case STATE_KDA:
        return (struct dims){SCAN_KDA,    true,        s->heads, s->heads,
                             s->head_dim, s->head_dim, 3 * width};
    case STATE_LIGHTNING:
        return (struct dims){SCAN_LIGHTNING, true,        s->heads, s->heads,
                             s->head_dim,    s->head_dim, 0};
    case STATE_RETENTION:
        return (struct dims){SCAN_RETENTION, true,        s->heads, s->heads,
                             s->head_dim,    s->head_dim, 0};
    case STATE_SHORTCONV: return (struct dims){.channels = hidden};
    case STATE_NONE:
    case STATE_GMU: break;
    }
    return (struct dims){.scans = false};
}

void mixer_widths(const struct state *s, uint32_t hidden, struct mixer_width *out)
{
    struct dims d = dims_of(s, hidden);
    uint64_t y = (uint64_t)d.heads * d.v_dim;

    *out = (struct mixer_width){.conv = d.channels, .y = y};
    out->state_elems = y * d.k_dim;
    out->conv_elems = d.channels ? (uint64_t)d.channels * (s->conv_kernel - 1) : 0;
    switch (s->kind) {
    case STATE_NONE: break;
    case STATE_MAMBA1:
        out->in = 2 * y;
        out->rate = y;
        out->rank = s->dt_rank;
        out->side = 2 * (uint64_t)s->state_dim;
        out->low = out->rank + out->side;
        out->gate = out->rank; /* between its two products */
        break;
    case STATE_MAMBA2: out->in = y + d.channels + s->heads; break;
    case STATE_GDN:
        out->in = y + d.channels;
        out->rate = 2 * (uint64_t)s->v_heads;
        break;
    case STATE_KDA:
        out->in = 3 * y;
        out->gate = out->rate = y;
        out->low = out->rank = s->head_dim;
        out->side = s->heads;
        break;
    case STATE_RETENTION: out->rate = s->heads; /* fall through */
    case STATE_LIGHTNING:
        out->in = 3 * y;
        out->gate = y;
        break;
    case STATE_SHORTCONV:
        out->in = 3 * (uint64_t)hidden;
        out->y = hidden;
        out->conv = 0;
        break;
    case STATE_GMU: out->in = out->y = s->inner; break;
    }
    out->in_outs = out->in;
    out->in = (out->in + 7) / 8 * 8;
}

const char *mixer_refuses(const struct state *s, uint32_t hidden)
{
    uint32_t all = s->heads | s->head_dim | s->state_dim | s->groups | s->k_heads | s->k_dim |
                   s->v_heads | s->v_dim;
    struct dims d;

    if (all >= 1u << 14 || s->inner >= 1u << 24)
        return "mixers have less than 2^14 heads of less than 2^14 elements";
    d = dims_of(s, hidden);
    if (d.scans && (d.k_dim < SCAN_K_DIM_MIN || d.k_dim > SCAN_K_DIM_MAX ||
                    (d.k_dim & (d.k_dim - 1)) || d.v_dim % 8 || d.heads % d.k_heads))
        return "states of 16, 32, 64, 128 or 256 columns, rows a multiple of 8";
    if (d.channels && (s->conv_kernel < CONV_TAPS_MIN || s->conv_kernel > CONV_TAPS_MAX))
        return "short convolutions have 2 to 4 taps";
    if (s->dt_rank % 8)
        return "rates of Mamba-1 have a rank that is a multiple of 8";
    return NULL;
}

const char *mixer_weight_name(enum state_kind kind, enum mixer_weight w)
{
    static const char *const names[][N_MIX_WEIGHTS] = {
        [STATE_MAMBA1] = {[MIX_IN] = "mixer.in_proj",
                          [MIX_CONV] = "mixer.conv1d",
                          [MIX_CONV_BIAS] = "mixer.conv1d.bias",
                          [MIX_LOW] = "mixer.x_proj",
                          [MIX_RATE] = "mixer.dt_proj",
                          [MIX_RATE_BIAS] = "mixer.dt_proj.bias",
                          [MIX_A_LOG] = "mixer.A_log",
                          [MIX_D] = "mixer.D",
                          [MIX_LOW_NORM] = "mixer.dt_b_c_layernorm",
                          [MIX_OUT] = "mixer.out_proj"},
        [STATE_MAMBA2] = {[MIX_IN] = "mixer.in_proj",
                          [MIX_CONV] = "mixer.conv1d",
                          [MIX_CONV_BIAS] = "mixer.conv1d.bias",
                          [MIX_A_LOG] = "mixer.A_log, D, dt_bias",
                          [MIX_NORM] = "mixer.norm",
                          [MIX_OUT] = "mixer.out_proj"},
        [STATE_GDN] = {[MIX_IN] = "linear_attn.in_proj_qkvz",
                       [MIX_CONV] = "linear_attn.conv1d",
                       [MIX_RATE] = "linear_attn.in_proj_ba",
                       [MIX_A_LOG] = "linear_attn.A_log, dt_bias",
                       [MIX_NORM] = "linear_attn.norm",
                       [MIX_OUT] = "linear_attn.out_proj"},
        [STATE_KDA] = {[MIX_IN] = "self_attn.q_proj", /* k and v follow */
                       [MIX_CONV] = "self_attn.qkv_conv1d",
                       [MIX_LOW] = "self_attn.f_a_proj",
                       [MIX_RATE] = "self_attn.f_b_proj",
                       [MIX_A_LOG] = "self_attn.A_log",
                       [MIX_DT_BIAS] = "self_attn.dt_bias",
                       [MIX_BETA] = "self_attn.b_proj",
                       [MIX_LOW_GATE] = "self_attn.g_a_proj",
                       [MIX_GATE] = "self_attn.g_b_proj",
                       [MIX_NORM] = "self_attn.o_norm",
                       [MIX_OUT] = "self_attn.o_proj"},
        [STATE_LIGHTNING] = {[MIX_IN] = "self_attn.qkv_proj",
                             [MIX_GATE] = "self_attn.output_gate",
                             [MIX_NORM] = "self_attn.norm",
                             [MIX_OUT] = "self_attn.out_proj"},
        [STATE_RETENTION] = {[MIX_IN] = "self_attn.qkv_proj",
                             [MIX_RATE] = "self_attn.gt_proj",
                             [MIX_GATE] = "self_attn.output_gate",
                             [MIX_OUT] = "self_attn.out_proj"},
        [STATE_SHORTCONV] =
            {[MIX_IN] = "conv.in_proj", [MIX_CONV] = "conv.conv", [MIX_OUT] = "conv.out_proj"},
        [STATE_GMU] = {[MIX_IN] = "mixer.in_proj", [MIX_OUT] = "mixer.out_proj"},
    };

    return names[kind][w];
}

float mixer_slope(uint32_t layer, uint32_t n_layers)
{
    double last = n_layers > 1 ? n_layers - 1 : 1;

    return (float)(1 - layer / (last + 1e-5) + 1e-5);
}

/* --- arguments ------------------------------------------------------------------------------
 */

static void *at(const void *p, uint64_t elements)
{
    return p ? (char *)(uintptr_t)p + 2 * elements : NULL;
}

bool mixer_conv(const struct recurrence *m, struct conv_args *out)
{
    const struct state *s = m->state;
    struct dims d = dims_of(s, m->hidden);
    bool gates = s->kind == STATE_SHORTCONV;
    struct mixer_width w;
    uint64_t first = s->kind == STATE_MAMBA2 ? (uint64_t)d.heads * d.v_dim
                     : gates                 ? 2 * (uint64_t)m->hidden
                                             : 0;

    mixer_widths(s, m->hidden, &w);
    *out = (struct conv_args){.x = at(m->in, first),
                              .gate_in = gates ? m->in : NULL,
                              .gate_out = gates ? at(m->in, m->hidden) : NULL,
                              .weight = m->weight[MIX_CONV],
                              .bias = m->weight[MIX_CONV_BIAS],
                              .state = m->slots,
                              .out = gates ? m->y : m->conv,
                              .slot_bytes = m->slot_bytes,
                              .sequences = m->sequences,
                              .tokens = m->tokens,
                              .channels = d.channels,
                              .x_stride = (uint32_t)w.in,
                              .taps = s->conv_kernel,
                              .silu = !gates,
                              .wide = m->conv_elem_bytes == 4,
                              .fp16 = m->fp16};
    return d.channels > 0;
}

/* Weights that stand in one tensor with others. */
static void head_weights(const struct recurrence *m, const struct dims *d,
                         struct scan_args *out)
{
    const void *all = m->weight[MIX_A_LOG];

    out->a_log = all;
    out->d = m->weight[MIX_D];
    out->dt_bias = m->weight[MIX_DT_BIAS];
    if (d->scan == SCAN_MAMBA2) {
        out->d = at(all, d->heads);
        out->dt_bias = at(all, 2 * (uint64_t)d->heads);
    } else if (d->scan == SCAN_GDN) {
        out->dt_bias = at(all, d->heads);
    }
}

bool mixer_scan(const struct recurrence *m, struct scan_args *out)
{
    const struct state *s = m->state;
    struct dims d = dims_of(s, m->hidden);
    uint64_t keys = (uint64_t)d.k_heads * d.k_dim, values = (uint64_t)d.heads * d.v_dim;
    const void *row = d.channels ? m->conv : m->in; /* q, k, v in most */
    struct mixer_width w;

    mixer_widths(s, m->hidden, &w);
    *out = (struct scan_args){.kind = d.scan,
                              .q = row,
                              .k = at(row, keys),
                              .v = at(row, 2 * keys),
                              .rate = m->rate,
                              .beta = d.scan == SCAN_GDN ? m->rate : m->side,
                              .state = at(m->slots, w.conv_elems * m->conv_elem_bytes / 2),
                              .out = m->memory ? m->memory : m->y,
                              .slot_bytes = m->slot_bytes,
                              .sequences = m->sequences,
                              .tokens = m->tokens,
                              .heads = d.heads,
                              .k_heads = d.k_heads,
                              .k_dim = d.k_dim,
                              .v_dim = d.v_dim,
                              .rate_stride = (uint32_t)w.rate,
                              .slope = m->slope,
                              .wide = m->state_elem_bytes == 4,
                              .fp16 = m->fp16};
    out->k_stride = out->v_stride = (uint32_t)(d.channels ? w.conv : w.in);
    out->beta_stride = d.heads * (d.scan == SCAN_GDN ? 2 : 1);
    if (d.scan == SCAN_GDN)
        out->rate = at(m->rate, d.heads);
    if (d.scan == SCAN_MAMBA2) {
        out->rate = at(m->in, w.in_outs - d.heads);
        out->rate_stride = (uint32_t)w.in;
        out->v = row;
        out->k = at(row, values);
        out->q = at(row, values + keys);
    } else if (d.scan == SCAN_MAMBA1) {
        out->v = row;
        out->k = m->side;
        out->q = at(m->side, (uint64_t)m->rows_max * d.k_dim);
        out->k_stride = d.k_dim;
    }
    head_weights(m, &d, out);
    return d.scans;
}

bool mixer_gate(const struct recurrence *m, struct gate_args *out)
{
    const struct state *s = m->state;
    struct dims d = dims_of(s, m->hidden);
    struct mixer_width w;

    mixer_widths(s, m->hidden, &w);
    *out = (struct gate_args){.x = m->memory ? m->memory : m->y,
                              .gate = m->in,
                              .weight = m->weight[MIX_NORM],
                              .out = m->y,
                              .rows = m->sequences * m->tokens,
                              .width = (uint32_t)w.y,
                              .group = (uint32_t)w.y,
                              .gate_stride = (uint32_t)w.in,
                              .weight_width = (uint32_t)w.y,
                              .epsilon = m->epsilon,
                              .norm = true,
                              .fp16 = m->fp16};
    switch (s->kind) {
    case STATE_NONE:
    case STATE_SHORTCONV: return false;
    case STATE_MAMBA1:
        out->gate = at(m->in, w.y);
        out->norm = false;
        break;
    case STATE_MAMBA2:
        out->norm = out->before = !s->no_gate_norm;
        out->group = out->norm ? out->width / s->groups : out->width;
        break;
    case STATE_GDN: out->gate = at(m->in, w.conv); break;
    case STATE_GMU:
        out->norm = false;
        out->counted = true;
        break;
    case STATE_KDA:
    case STATE_LIGHTNING:
    case STATE_RETENTION:
        out->gate = m->gate;
        out->gate_stride = (uint32_t)w.gate;
        out->sigmoid = s->kind != STATE_RETENTION;
        break;
    }
    if (s->kind == STATE_GDN || s->kind == STATE_KDA || s->kind == STATE_RETENTION)
        out->group = out->weight_width = d.v_dim;
    return true;
}
