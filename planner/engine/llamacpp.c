/* llama.cpp allocates everything when it starts: the weights of the layers on the GPU, K and V
 * of every cell of the context, fp32 recurrent states, and the buffer of the largest graph.
 * Nothing is left to chance later, and nothing grows. With -c given the context is that;
 * without it this file plans -c and -np for the batch that is asked for, or the largest that
 * fits. */
#include "planner/engine/engine.h"

#include <string.h>

#include "planner/engine/flags/flags.h"
#include "planner/engine/llamacpp/llamacpp.h"

enum { SEQUENCES_MAX = 256, SERVER_SLOTS = 4, DEVICE_INPUT_COPIES = 4, F32 = 4 };

/* CUDA context and libraries, outside every buffer that is printed: 150 to 600 MiB were seen.
 */
#define CONTEXT_BYTES ((uint64_t)300 << 20)

enum { CHOICE_DEFAULT, CHOICE_OFF, CHOICE_ON };

/* --- settings -------------------------------------------------------------------------------
 */

/* The rules of a version that `defaults` has accepted. */
static enum lcpp_rules rules_of(const struct engine_settings *set)
{
    enum lcpp_rules r = LCPP_LATENT_ONLY;

    lcpp_rules_of(set->version, &r);
    return r;
}

/* Flash attention was off unless asked for; since September 2025 it is taken where it runs. */
static bool flash_attn(const struct engine_settings *set)
{
    if (set->flash_attn != CHOICE_DEFAULT)
        return set->flash_attn == CHOICE_ON;
    return rules_of(set) >= LCPP_STREAMS;
}

static void note_defaults(const struct engine_host *host, const struct engine_settings *set,
                          struct diag *d)
{
    if (!set->max_model_len)
        diag_add(
            d, DIAG_NOTE, host->at,
            "engine.max_model_len (-c) is not given: -c and -np are planned for the batch");
    else if (!set->n_seq)
        diag_add(d, DIAG_NOTE, host->at,
                 "engine.n_seq (-np) is not given: %d slots that share the context, as "
                 "llama-server takes",
                 SERVER_SLOTS);
    if (set->flash_attn == CHOICE_DEFAULT)
        diag_add(d, DIAG_NOTE, host->at, "engine.flash_attn is not given: %s, as this version",
                 flash_attn(set) ? "on" : "off");
}

static bool llamacpp_defaults(const struct engine_host *host, struct engine_settings *set,
                              struct diag *d)
{
    enum lcpp_rules rules;
    bool ok = true;

    if (!lcpp_rules_of(set->version, &rules))
        ok = diag_add(d, DIAG_INPUT, host->at,
                      "engine.version '%s': llama.cpp's rules are known by month; write the "
                      "month of the build, such as \"2025-11\"",
                      set->version);
    if (set->n_seq > SEQUENCES_MAX)
        ok = diag_add(d, DIAG_INPUT, host->at,
                      "engine.n_seq %llu: llama.cpp runs at most %d "
                      "sequences at once",
                      (unsigned long long)set->n_seq, SEQUENCES_MAX);
    if (set->memory_fraction > 0)
        diag_add(d, DIAG_WARN, host->at,
                 "engine.memory_fraction has no effect: llama.cpp takes what its buffers need");
    if (ok)
        note_defaults(host, set, d);
    return ok;
}

/* -ngl counts from the last layer down; since 2026 the output layer is the first it takes,
 * before it was the last. */
static uint64_t host_layers(const struct engine_settings *set, const struct model *m)
{
    uint64_t n = set->offload_layers, layers = m->n_layers;

    if (!set->offload_layers_given)
        return 0;
    if (rules_of(set) >= LCPP_LATENT_ONLY)
        n -= n != 0;
    return n < layers ? layers - n : 0;
}

static bool head_on_gpu(const struct engine_in *in)
{
    const struct engine_settings *set = in->set;

    if (!in->last_stage)
        return false;
    if (!set->offload_layers_given)
        return true;
    if (rules_of(set) >= LCPP_LATENT_ONLY)
        return set->offload_layers > 0;
    return set->offload_layers > in->layout->n_layers;
}

/* --- what it can run ------------------------------------------------------------------------
 */

static bool is_one_of(const char *word, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(word, *list))
            return true;
    return false;
}

static bool check_formats(const struct engine_settings *set, const struct layout *l,
                          struct diag *d)
{
    static const char *const types[] = {"fp32", "fp16", "bf16", "q8_0",   "q4_0",
                                        "q4_1", "q5_0", "q5_1", "iq4_nl", NULL};

    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct cache_row *r = &l->rows[i];
        const char *bad = NULL;
        if (r->stream != STREAM_KV && r->stream != STREAM_LATENT)
            continue;
        if (!is_one_of(r->k_format.name, types))
            bad = r->k_format.name;
        else if (r->v_dim && !is_one_of(r->v_format.name, types))
            bad = r->v_format.name;
        if (bad)
            return diag_add(d, DIAG_INPUT, l->at,
                            "llama.cpp has no cache type %s; it takes f32, f16, bf16, q8_0, "
                            "q5_1, q5_0, q4_1, q4_0 and iq4_nl",
                            bad);
        if (r->v_dim && r->v_format.block_elems > 1 && !flash_attn(set))
            return diag_add(d, DIAG_INPUT, l->at,
                            "llama.cpp quantizes V (%s) with flash attention only: set "
                            "engine.flash_attn",
                            r->v_format.name);
    }
    return true;
}

static bool llamacpp_adapt(const struct engine_settings *set, struct layout *l, struct diag *d)
{
    static const char *const sharings[] = {"none", "native", "mha", "gqa", "mqa", NULL};
    bool windows = false, ok = true;

    if (!is_one_of(l->sharing, sharings))
        ok = diag_add(d, DIAG_INPUT, l->at,
                      "llama.cpp cannot run %s: its graphs know the sharing of shipped models "
                      "only",
                      l->sharing);
    if (strcmp(l->retention, "none") != 0)
        ok = diag_add(d, DIAG_INPUT, l->at, "llama.cpp cannot run %s: it never drops tokens",
                      l->retention);
    ok = check_formats(set, l, d) && ok;
    for (uint32_t i = 0; i < l->n_rows; i++)
        windows |= l->rows[i].store_window_tokens != 0;
    if (windows && !lcpp_knows_windows(l->model))
        diag_add(d, DIAG_NOTE, l->at,
                 "llama.cpp has no sliding windows for %s: every layer holds the whole context",
                 l->model->model_type);
    lcpp_adapt(l);
    return ok;
}

/* --- weights --------------------------------------------------------------------------------
 */

/* Bytes of the tables outside the layers of one kind: the embedding with other gathers, or the
 * head. A tied head counts as the table it is a copy of. */
static uint64_t outside_bytes(const struct engine_in *in, bool head, struct ck *ck)
{
    struct tensor t[MODEL_TENSORS_MAX];
    const struct model *m = in->layout->model;
    size_t n = weights_outside(m, t);
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        bool gather = t[i].part == PART_EMBED || t[i].part == PART_POSITION;
        if (head ? t[i].part != PART_HEAD : !gather)
            continue;
        const struct weight_format *f = weights_format_of(m, &t[i], -1, in->asked);
        t[i].tied = false;
        sum = ck_add(ck, sum, weights_tensor_bytes(&t[i], f, (struct shard){1, 1, 1}, ck));
    }
    return sum;
}

/* Norms and biases are fp32 in a GGUF file, whatever the checkpoint has. */
static uint64_t vector_bytes(const struct engine_in *in, uint32_t first, uint32_t last,
                             struct ck *ck)
{
    struct tensor t[LAYER_TENSORS_MAX];
    const struct model *m = in->layout->model;
    uint64_t more = 0;

    for (uint32_t i = first; i < last; i++) {
        size_t n = weights_layer(m, &in->layout->layers[i], layout_owns_kv(in->layout, i), t);
        for (size_t k = 0; k < n; k++) {
            const struct weight_format *f = weights_format_of(m, &t[k], (int)i, in->asked);
            if (!t[k].vector || !f || f->block_bytes >= F32)
                continue;
            more = ck_add(
                ck, more,
                ck_prod(ck, t[k].out, t[k].in, t[k].copies, (uint64_t)F32 - f->block_bytes));
        }
    }
    return more;
}

/* Gathers stay on the host; a tied embedding is loaded once more as the head. */
static uint64_t gpu_weights(const struct engine_in *in, uint32_t first, uint32_t last,
                            struct ck *ck)
{
    uint64_t sum = in->work->weights_bytes, head = outside_bytes(in, true, ck), gone = 0;
    bool tied = in->layout->model->tied;

    if (in->first_stage)
        gone = outside_bytes(in, false, ck);
    if (tied && in->first_stage && head_on_gpu(in))
        sum = ck_add(ck, sum, head);
    if (in->last_stage && !head_on_gpu(in) && (!tied || !in->first_stage))
        gone = ck_add(ck, gone, head);
    if (!in->layout->model->weights_bytes)
        sum = ck_add(ck, sum, vector_bytes(in, first, last, ck));
    return sum > gone ? sum - gone : 0;
}

/* --- budget ---------------------------------------------------------------------------------
 */

struct gpu_layers {
    uint32_t all, first, last; /* of the stage; of those on the GPU */
};

static struct gpu_layers layers_of(const struct engine_in *in)
{
    struct slice s = in->fold->slice;
    uint32_t host = (uint32_t)u64_min(in->host_layers, s.last);

    return (struct gpu_layers){s.first, host > s.first ? host : s.first, s.last};
}

/* The context for so many sequences of so many tokens. */
static struct lcpp_context context_for(const struct engine_settings *set, uint64_t sequences,
                                       uint64_t tokens, struct ck *ck)
{
    bool fixed = set->max_model_len != 0;
    struct lcpp_ask ask = {
        .n_ctx = set->max_model_len,
        .n_batch = set->n_batch,
        .n_ubatch = set->n_ubatch,
        .n_seq = set->n_seq,
        .unified = set->kv_unified == CHOICE_ON,
        .flash_attn = flash_attn(set),
        .swa_full = set->swa_full,
    };

    if (!set->n_seq && fixed) {
        ask.n_seq = SERVER_SLOTS;
        ask.unified = set->kv_unified != CHOICE_OFF;
    } else if (!set->n_seq) {
        ask.n_seq = u64_min(sequences, SEQUENCES_MAX);
    }
    if (!fixed)
        ask.n_ctx = ck_mul(ck, u64_max(ask.n_seq, 1), tokens);
    return lcpp_context_of(rules_of(set), &ask, ck);
}

static void llamacpp_reserve(const struct engine_in *in, uint64_t sequences, uint64_t tokens,
                             struct budget *out, struct ck *ck)
{
    struct gpu_layers g = layers_of(in);
    struct lcpp_context c = context_for(in->set, sequences, tokens, ck);
    struct lcpp_buffers all = lcpp_buffers_of(in->layout, &c, g.all, g.last, ck), gpu = all;
    uint32_t copies = in->parallel.pp > 1 && !in->host_layers ? DEVICE_INPUT_COPIES : 1;

    if (g.first != g.all)
        gpu = lcpp_buffers_of(in->layout, &c, g.first, g.last, ck);
    *out = *in->base;
    out->reserved = true;
    out->k_bytes = all.k_bytes;
    out->v_bytes = all.v_bytes;
    out->kv_pool_bytes = ck_add(ck, gpu.k_bytes, gpu.v_bytes);
    out->state_bytes = gpu.state_bytes;
    out->workspace_bytes =
        lcpp_compute_bytes(in->layout, &c, g.first, g.last, head_on_gpu(in), copies, ck);
    out->pool_tokens = c.n_ctx;
    out->slots = lcpp_slots(&c, tokens);
    out->slot_tokens = c.n_ctx_seq;
    budget_close(out);
}

static void note_buffers(const struct engine_in *in, const struct lcpp_context *c,
                         struct diag *d, struct ck *ck)
{
    if (!in->last_stage)
        return;
    diag_add(d, DIAG_NOTE, in->at,
             "workspace_bytes is llama.cpp's compute buffer as a lower bound: the largest live "
             "set of one micro-batch of %llu tokens",
             (unsigned long long)c->n_ubatch);
    diag_add(d, DIAG_NOTE, in->at,
             "llama.cpp keeps the token embedding in host memory and %llu bytes of logits in a "
             "pinned buffer",
             (unsigned long long)lcpp_output_bytes(in->layout->model, c, ck));
}

static bool llamacpp_budget(const struct engine_in *in, struct budget *out, struct diag *d)
{
    struct gpu_layers g = layers_of(in);
    uint64_t sequences = u64_max(in->batch, 1);
    struct ck ck = {0};
    struct budget base = {
        .total_bytes = in->total_bytes,
        .usable_bytes = in->visible_bytes,
        .non_torch_bytes = CONTEXT_BYTES,
    };

    if (in->parallel.tp > 1)
        return diag_add(
            d, DIAG_INPUT, in->at,
            "parallel.tp %u: llama.cpp divides layers, not heads, over GPUs; use pp",
            in->parallel.tp);
    if (in->parallel.cp > 1)
        return diag_add(d, DIAG_INPUT, in->at,
                        "parallel.cp %u: llama.cpp does not divide contexts", in->parallel.cp);
    base.weights_bytes = gpu_weights(in, g.first, g.last, &ck);
    *out = base;
    struct engine_in with = *in;
    with.base = &base;
    llamacpp_reserve(&with, sequences, in->prompt + in->output, out, &ck);
    struct lcpp_context c = context_for(in->set, sequences, in->prompt + in->output, &ck);
    note_buffers(in, &c, d, &ck);
    if (ck.over)
        return diag_add(d, DIAG_INPUT, in->at, "sizes overflow 64 bits");
    return true;
}

/* --- flags ----------------------------------------------------------------------------------
 */

/* The file a server would be given: a .gguf is itself, other models stand for a conversion. */
static const char *gguf_name(const struct flags_in *in, struct engine_flags *f)
{
    const char *name = in->model, *end = strrchr(name, '.'), *slash;
    const struct weight_format *asked = in->in->asked;

    if (end && !strcmp(end, ".gguf"))
        return name;
    slash = strrchr(name, '/');
    name = arena_printf(f->arena, "%s-%s.gguf", slash && slash[1] ? slash + 1 : name,
                        asked ? asked->name : flags_activation_format(in));
    flag_note(f, "%s stands for the model converted to GGUF with weights of that type", name);
    return name;
}

/* -ngl as host_layers reads it. */
static uint64_t gpu_layers(const struct engine_in *in)
{
    uint64_t layers = in->layout->n_layers, on_gpu = layers - u64_min(in->host_layers, layers);

    if (in->set->offload_layers_given)
        return in->set->offload_layers;
    if (on_gpu == layers || rules_of(in->set) >= LCPP_LATENT_ONLY)
        on_gpu++;
    return on_gpu;
}

static void put_cells(const struct engine_in *in, const struct lcpp_context *c,
                      struct engine_flags *f)
{
    flag_u64(f, FLAG_COMMAND, "engine.max_model_len", "-c", c->n_ctx);
    flag_u64(f, FLAG_COMMAND, "engine.n_seq", "-np", c->n_seq);
    if (c->unified && c->rules >= LCPP_STREAMS)
        flag_text(f, FLAG_COMMAND, "engine.kv_unified", "-kvu", NULL);
    flag_u64(f, FLAG_COMMAND, "engine.n_batch", "-b", in->set->n_batch);
    flag_u64(f, FLAG_COMMAND, "engine.n_ubatch", "-ub", c->n_ubatch);
    if (c->rules >= LCPP_STREAMS)
        flag_text(f, FLAG_COMMAND, "engine.flash_attn", "-fa", c->flash_attn ? "on" : "off");
    else if (c->flash_attn)
        flag_text(f, FLAG_COMMAND, "engine.flash_attn", "-fa", NULL);
    if (in->set->swa_full && c->rules >= LCPP_SWA_BATCH)
        flag_text(f, FLAG_COMMAND, "engine.swa_full", "--swa-full", NULL);
}

static void put_types(const struct flags_in *in, struct engine_flags *f)
{
    static const char *const types[][2] = {{"fp32", "f32"}, {"fp16", "f16"}};
    const char *v, *k = flags_cache_format(in, &v);

    if (!k)
        return;
    v = v ? v : k;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        k = strcmp(k, types[i][0]) != 0 ? k : types[i][1];
        v = strcmp(v, types[i][0]) != 0 ? v : types[i][1];
    }
    flag_text(f, FLAG_COMMAND, "cache.k", "-ctk", k);
    flag_text(f, FLAG_COMMAND, "cache.v", "-ctv", v);
}

/* source: llama.cpp tools/server/README.md, common/arg.cpp. */
static void llamacpp_flags(const struct flags_in *in, struct engine_flags *f)
{
    struct ck ck = {0};
    const struct engine_in *e = in->in;
    struct lcpp_context c =
        context_for(e->set, u64_max(in->sequences, 1), e->prompt + e->output, &ck);
    uint32_t pp = e->parallel.pp;
    const char *even = "1";

    flag_word(f, "llama-server");
    flag_text(f, FLAG_COMMAND, "model", "-m", gguf_name(in, f));
    put_cells(e, &c, f);
    put_types(in, f);
    flag_text(f, FLAG_COMMAND, "engine.offload_layers", "-ngl",
              arena_printf(f->arena, "%llu", (unsigned long long)gpu_layers(e)));
    for (uint32_t i = 1; i < pp; i++)
        even = arena_printf(f->arena, "%s,1", even);
    if (pp > 1) {
        flag_text(f, FLAG_COMMAND, "parallel.pp", "-sm", "layer");
        flag_text(f, FLAG_COMMAND, "parallel.pp", "-ts", even);
    }
    if (e->set->cuda_graphs == CHOICE_OFF)
        flag_text(f, FLAG_ENVIRONMENT, "engine.cuda_graphs", "GGML_CUDA_DISABLE_GRAPHS", "1");
    flags_replicas(in, "llama-server", f);
    flags_check_schemes(in, "llama.cpp", f);
}

const struct engine engine_llamacpp = {
    .name = "llamacpp",
    .summary = "llama.cpp: everything is allocated at start-up, cells padded to 256",
    .source = "llama.cpp as vendored by ggml-org/whisper.cpp 4834a2327 (August 2026); older "
              "rules by month",
    .block_tokens = 1,
    .cache_format = "fp16",
    .layer_split = true,
    .defaults = llamacpp_defaults,
    .adapt = llamacpp_adapt,
    .host_layers = host_layers,
    .budget = llamacpp_budget,
    .reserve = llamacpp_reserve,
    .flags = llamacpp_flags,
};
