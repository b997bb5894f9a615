/* Command lines that start servers, as pasted from a shell, a script or a container's start;
 * and flags that contradict each other, by the engine's own rule.
 *
 * source: vllm/config/scheduler.py _verify_args, vllm/v1/worker/gpu_worker.py
 * (kv_cache_memory_bytes), sglang/srt/server_args.py check_server_args. */
#include "planner/plan/fromlog_in.h"

#include <string.h>

#include "planner/engine/engine.h"

static bool is_one_of(const char *word, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(word, *list))
            return true;
    return false;
}

/* --- commands -------------------------------------------------------------------------------
 */

enum { WORDS_MAX = 512 };

struct words {
    const char *v[WORDS_MAX];
    size_t n;
};

/* One word as a shell takes it; the end of it. */
static const char *shell_word(const char *s, char *to)
{
    char quote = '\0';

    for (; *s && (quote || *s != ' '); s++) {
        if (quote ? *s == quote : *s == '\'' || *s == '"')
            quote = quote ? '\0' : *s;
        else if (*s == '\\' && quote != '\'' && s[1])
            *to++ = *++s;
        else
            *to++ = *s;
    }
    *to = '\0';
    return s;
}

static void split(struct arena *a, const char *line, struct words *w)
{
    char *buf = arena_alloc(a, strlen(line) + 1, 1);

    w->n = 0;
    for (const char *s = line; *(s += strspn(s, " ")) && w->n < WORDS_MAX;) {
        s = shell_word(s, buf);
        w->v[w->n++] = arena_strdup(a, buf);
    }
}

static const char *base_name(const char *word)
{
    const char *slash = strrchr(word, '/');

    return slash ? slash + 1 : word;
}

/* Lines that begin like this may be commands. */
static bool starts_command(const struct words *w, size_t *first)
{
    static const char *const prompts[] = {"$", "#", ">", "%", "CMD", "ENTRYPOINT", NULL};
    static const char *const starts[] = {"vllm",
                                         "python",
                                         "python3",
                                         "sudo",
                                         "env",
                                         "nohup",
                                         "exec",
                                         "docker",
                                         "podman",
                                         "mpirun",
                                         "numactl",
                                         "sglang",
                                         "trtllm-serve",
                                         "time",
                                         "uv",
                                         "llama-server",
                                         "llama-cli",
                                         "llama-bench",
                                         "trtllm-llmapi-launch",
                                         NULL};
    size_t i = 0;
    const char *eq;

    while (i < w->n && is_one_of(w->v[i], prompts))
        i++;
    while (i < w->n && (eq = strchr(w->v[i], '=')) != NULL && eq > w->v[i] &&
           w->v[i][0] >= 'A' && w->v[i][0] <= 'Z' &&
           strspn(w->v[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == (size_t)(eq - w->v[i]))
        i++;
    *first = i;
    return i < w->n && is_one_of(base_name(w->v[i]), starts);
}

/* The version in the tag of an image: "vllm/vllm-openai:v0.19.0". */
static void image_version(struct log_reader *r, const char *word)
{
    const char *tag = strrchr(word, ':');

    if (tag && tag[1] == 'v' && tag[2] >= '0' && tag[2] <= '9')
        r->log->version = arena_strndup(r->arena, tag + 2, strspn(tag + 2, "0123456789."));
}

/* The engine whose server this starts, and the index of its first option. */
static enum log_engine program(struct log_reader *r, const struct words *w, size_t first,
                               size_t *options)
{
    for (size_t i = first; i < w->n; i++) {
        const char *word = w->v[i], *base = base_name(word);
        *options = i + 1;
        if (!strcmp(base, "vllm") && i + 1 < w->n && !strcmp(w->v[i + 1], "serve")) {
            ++*options;
            return LOG_VLLM;
        }
        if (!strncmp(word, "vllm.entrypoints", 16))
            return LOG_VLLM;
        if (!strcmp(word, "sglang.launch_server"))
            return LOG_SGLANG;
        if (!strcmp(base, "sglang") && i + 1 < w->n && !strcmp(w->v[i + 1], "serve")) {
            ++*options;
            return LOG_SGLANG;
        }
        if (!strcmp(base, "trtllm-serve"))
            return LOG_TRTLLM;
        if (!strcmp(base, "llama-server") || !strcmp(base, "llama-cli"))
            return LOG_LLAMACPP;
        if (!strncmp(word, "lmsysorg/sglang:", 16) || !strncmp(word, "vllm/vllm-openai", 16))
            image_version(r, word);
        if (!strncmp(word, "vllm/vllm-openai", 16))
            return LOG_VLLM;
    }
    return LOG_ANY;
}

/* One option; how many words it took. */
static size_t take_flag(struct log_reader *r, enum log_engine e, const struct words *w,
                        size_t i)
{
    const char *word = w->v[i], *eq = strchr(word, '='), *next = NULL;
    size_t n = eq ? (size_t)(eq - word) : strlen(word), taken = 1;
    const struct log_flag *f = log_flag_of(e, word, n);

    if (i + 1 < w->n)
        next = w->v[i + 1];
    if (!f || (!eq && !log_flag_takes_value(f, next))) {
        if (f)
            (void)!log_flag_set(r, f, f->kind == FLAG_CHOICE ? "on" : "", LOG_FLAG);
        /* of an unknown option, and of one that is not planned, the next word is the value */
        return (!f || f->kind == FLAG_UNPLANNED) && !eq && next && next[0] != '-' ? 2 : 1;
    }
    if (!eq && (!next || (next[0] == '-' && (next[1] < '0' || next[1] > '9')))) {
        diag_add(r->diag, DIAG_INPUT, r->at, "%s of %s needs a value", f->name,
                 log_engine_title(e));
        return 1;
    }
    taken += !eq;
    next = eq ? eq + 1 : next;
    if (*next == '$')
        diag_add(r->diag, DIAG_WARN, r->at,
                 "%s is a variable of the shell (%.40s): its value is not known", f->name,
                 next);
    else if (f->kind == FLAG_YES || f->kind == FLAG_NO)
        (void)!(strcmp(next, "False") && strcmp(next, "false") && strcmp(next, "0") &&
                log_flag_set(r, f, "", LOG_FLAG));
    else
        (void)!log_flag_set(r, f, next, LOG_FLAG);
    return taken;
}

bool log_command(struct log_reader *r, const char *line)
{
    struct words w;
    size_t i, first;
    enum log_engine e;

    if (strlen(line) > LOG_LINE_MAX / 4 ||
        !(strstr(line, "vllm") || strstr(line, "sglang") || strstr(line, "trtllm-serve") ||
          strstr(line, "llama-")))
        return false;
    split(r->arena, line, &w);
    if (!starts_command(&w, &first) || (e = program(r, &w, first, &i)) == LOG_ANY)
        return false;
    if (!log_speaks(r, e))
        return true;
    if (i && !strcmp(base_name(w.v[i - 1]), "llama-cli"))
        log_set(r, "engine.n_seq", "1", "llama-cli", LOG_PAIR);
    if (e == LOG_TRTLLM && i < w.n && !strcmp(w.v[i], "serve"))
        i++;
    for (bool named = false; i < w.n;) {
        static const char *const ends[] = {"&", "|", ">", ">>", "2>&1", "&&", ";", NULL};
        if (is_one_of(w.v[i], ends))
            break;
        if (w.v[i][0] == '-' && w.v[i][1]) {
            i += take_flag(r, e, &w, i);
        } else {
            if (!named && e != LOG_LLAMACPP && w.v[i][0] != '$')
                log_model(r, w.v[i], "the command", LOG_FLAG);
            named = true;
            i++;
        }
    }
    return true;
}

/* --- flags that contradict each other -------------------------------------------------------
 */

static void check_vllm(struct log_reader *r)
{
    const struct server_log *log = r->log;
    uint64_t tokens = 0, len = 0, tp = 1, dp = 1;
    const struct log_setting *pool = log_setting(log, "memory.per_gpu.kv_pool_bytes"),
                             *share = log_setting(log, "engine.memory_fraction"),
                             *whole = log_setting(log, "_whole_prompts");

    if (whole && log_setting_u64(log, "engine.max_batched_tokens", &tokens) &&
        log_setting_u64(log, "engine.max_model_len", &len) && tokens < len)
        diag_add(r->diag, DIAG_INPUT, whole->at,
                 "vLLM refuses --max-num-batched-tokens (%llu) below --max-model-len (%llu) "
                 "with --no-enable-chunked-prefill: a prompt has to fit one step",
                 (unsigned long long)tokens, (unsigned long long)len);
    if (pool && share && share->rank == LOG_FLAG)
        diag_add(r->diag, DIAG_WARN, pool->at,
                 "vLLM takes the pool from --kv-cache-memory-bytes and leaves "
                 "--gpu-memory-utilization (%s) unused",
                 share->value);
    if (log_setting(log, "_expert_parallel")) {
        (void)!log_setting_u64(log, "parallel.tp", &tp);
        (void)!log_setting_u64(log, "parallel.dp", &dp);
        if (tp <= 4096 && dp <= 4096)
            log_set(r, "parallel.ep",
                    arena_printf(r->arena, "%llu", (unsigned long long)(tp * dp)),
                    "--enable-expert-parallel", LOG_DERIVED);
    }
}

static void check_sglang(struct log_reader *r)
{
    const struct server_log *log = r->log;
    const struct log_setting *dpa = log_setting(log, "_dp_attention");
    uint64_t tp = 1, dp = 1, chunk = 0, page = 0;

    (void)!log_setting_u64(log, "parallel.tp", &tp);
    (void)!log_setting_u64(log, "parallel.dp", &dp);
    if (dpa && dp && tp % dp)
        diag_add(r->diag, DIAG_INPUT, dpa->at,
                 "SGLang refuses --enable-dp-attention where --dp-size (%llu) does not divide "
                 "--tp-size (%llu)",
                 (unsigned long long)dp, (unsigned long long)tp);
    else if (dpa && dp > 1) {
        diag_add(r->diag, DIAG_WARN, dpa->at,
                 "--enable-dp-attention divides attention over fewer ranks; it is planned as "
                 "plain tensor parallelism");
        log_set(r, "parallel.dp", "1", "--enable-dp-attention", LOG_DERIVED);
    }
    if (log_setting_u64(log, "engine.max_batched_tokens", &chunk) &&
        log_setting_u64(log, "engine.block_tokens", &page) && page && chunk % page)
        diag_add(r->diag, DIAG_INPUT, log_setting(log, "engine.block_tokens")->at,
                 "SGLang refuses --chunked-prefill-size (%llu) that --page-size (%llu) does "
                 "not divide",
                 (unsigned long long)chunk, (unsigned long long)page);
}

void log_check(struct log_reader *r)
{
    uint32_t number;

    if (r->engine == LOG_VLLM)
        check_vllm(r);
    if (r->engine == LOG_SGLANG)
        check_sglang(r);
    if (!r->log->version || r->engine == LOG_LLAMACPP)
        return;
    if (engine_version(r->log->version, r->at, diag_new(r->arena), &number))
        log_set(r, "engine.version", r->log->version, "the version it prints", LOG_PRINTED);
    else
        diag_add(r->diag, DIAG_WARN, r->at,
                 "version '%.40s' is not one that can be ordered: the newest rules are taken",
                 r->log->version);
}
