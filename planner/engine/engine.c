/* The registry of engines and what they share. */
#include "planner/engine/engine.h"

#include <string.h>

#define ENTRY(id) extern const struct engine engine_##id;
#include "engine.inc"
#undef ENTRY

static const struct engine *const engines[] = {
#define ENTRY(id) &engine_##id,
#include "engine.inc"
#undef ENTRY
    NULL,
};

const struct engine *engine_at(size_t i)
{
    return i < sizeof engines / sizeof *engines ? engines[i] : NULL;
}

const struct engine *engine_find(const char *name, struct loc at, struct diag *d)
{
    char known[256] = "";
    size_t used = 0;

    if (!name || !*name)
        name = "ideal";
    for (size_t i = 0; engines[i]; i++) {
        int n;
        if (!strcmp(engines[i]->name, name))
            return engines[i];
        n = snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "",
                     engines[i]->name);
        if (n > 0 && (size_t)n < sizeof known - used)
            used += (size_t)n;
    }
    diag_add(d, DIAG_INPUT, at, "engine '%s' is not in this build; known engines: %s", name,
             known);
    return NULL;
}

/* Everything but a pool that takes what is left. */
static uint64_t taken_bytes(const struct budget *b)
{
    uint64_t terms[] = {b->weights_bytes,
                        b->activation_bytes,
                        b->non_torch_bytes,
                        b->free_graphs ? 0 : b->cuda_graph_bytes,
                        b->workspace_bytes,
                        b->state_bytes,
                        b->reserved ? b->kv_pool_bytes : 0};
    struct ck ck = {0};
    uint64_t sum = 0;

    for (size_t i = 0; i < sizeof terms / sizeof *terms; i++)
        sum = ck_add(&ck, sum, terms[i]);
    return ck.over ? UINT64_MAX : sum;
}

uint64_t budget_left_bytes(const struct budget *b)
{
    uint64_t sum = taken_bytes(b);

    if (!b->reserved)
        sum = b->kv_pool_bytes > UINT64_MAX - sum ? UINT64_MAX : sum + b->kv_pool_bytes;
    return b->usable_bytes > sum ? b->usable_bytes - sum : 0;
}

void budget_close(struct budget *b)
{
    uint64_t sum = taken_bytes(b);

    b->short_bytes = sum > b->usable_bytes ? sum - b->usable_bytes : 0;
    if (b->reserved)
        return;
    b->kv_pool_bytes = b->usable_bytes > sum ? b->usable_bytes - sum : 0;
    if (b->pool_ratio > 0)
        b->kv_pool_bytes = (uint64_t)((double)b->kv_pool_bytes * b->pool_ratio);
}

/* --- versions ------------------------------------------------------------------------------
 */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool engine_version(const char *text, struct loc at, struct diag *d, uint32_t *out)
{
    const char *s = text;
    uint32_t part[3] = {0, 0, 0};
    size_t n = 0;

    *out = ENGINE_NEWEST;
    if (!text)
        return true;
    s += *s == 'v';
    while (n < 3 && is_digit(*s)) {
        uint32_t v = 0;
        for (; is_digit(*s) && v < 100; s++)
            v = 10 * v + (uint32_t)(*s - '0');
        if (is_digit(*s))
            break; /* four digits: no version has that */
        part[n++] = v;
        if (*s != '.')
            break;
        s++;
    }
    if (n < 2 || is_digit(*s))
        return diag_add(d, DIAG_INPUT, at,
                        "engine.version '%s' is not a version such as 0.19.0", text);
    *out = ENGINE_VERSION(part[0], part[1], part[2]);
    return true;
}

/* --- what engines share --------------------------------------------------------------------
 */

uint64_t engine_activation_elem_bytes(const struct engine_in *in)
{
    return in->asked && !strcmp(in->asked->name, "fp32") ? 4 : 2;
}

void engine_default(uint64_t *setting, const char *key, uint64_t value, const char *why,
                    const struct engine_host *host, struct diag *d)
{
    if (*setting || !value)
        return;
    *setting = value;
    diag_add(d, DIAG_NOTE, host->at, "engine.%s is not given: %llu, %s", key,
             (unsigned long long)value, why);
}

void engine_default_fraction(double *setting, double value, const char *why,
                             const struct engine_host *host, struct diag *d)
{
    if (*setting > 0)
        return;
    *setting = value;
    diag_add(d, DIAG_NOTE, host->at, "engine.memory_fraction is not given: %g, %s", value, why);
}
