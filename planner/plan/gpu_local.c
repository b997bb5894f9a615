/* From what the driver tells to the figures of a GPU. */
#include "planner/plan/gpu_local.h"

#include <string.h>

#include "planner/base/ck.h"
#include "planner/base/unit.h"

/* Less than this in use is the driver's own and the desktop's. */
#define IN_USE_BYTES ((uint64_t)1 << 30)

const char *gpu_local_profile(const struct profiles *p, const struct nvml_device *device,
                              struct diag *d)
{
    const struct doc_node *doc = profile_find(p, PROFILE_GPU, device->name, d);
    const struct doc_node *name = doc ? doc_get(doc, "name") : NULL;

    return name && name->kind == DOC_SCALAR ? name->text : NULL;
}

/* --- a device without a profile ------------------------------------------------------------
 */

static void put(struct arena *a, struct doc_node *map, const char *key, const char *text)
{
    struct doc_node *n = doc_new(a, DOC_SCALAR, map->at);

    n->key = key;
    n->key_at = map->at;
    n->text = text;
    n->quoted = true;
    doc_append(map, n);
}

static const char *whole(struct arena *a, uint64_t v)
{
    return arena_printf(a, "%llu", (unsigned long long)v);
}

static bool without_profile(struct arena *a, const struct nvml_device *v, struct loc at,
                            struct diag *d, struct gpu *out)
{
    struct doc_node *map = doc_new(a, DOC_MAP, at);

    put(a, map, "name", v->name);
    put(a, map, "vendor", "nvidia");
    put(a, map, "memory_total", whole(a, v->total_bytes));
    if (v->major)
        put(a, map, "compute_capability", arena_printf(a, "%d.%d", v->major, v->minor));
    if (v->link_generation >= 1 && v->link_generation <= 6 && v->link_lanes >= 1 &&
        v->link_lanes <= 32) {
        put(a, map, "pcie_generation", whole(a, v->link_generation));
        put(a, map, "pcie_lanes", whole(a, v->link_lanes));
    }
    diag_add(d, DIAG_NOTE, at,
             "there is no profile of '%s': its memory is the driver's figure, bandwidth and "
             "arithmetic are not known",
             v->name);
    return gpu_inline(a, map, d, out);
}

/* --- memory --------------------------------------------------------------------------------
 */

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

static void set_memory(struct arena *a, const struct nvml_facts *f, struct gpu *out)
{
    const struct nvml_device *v = &f->devices[0];
    bool same = distance(out->memory_total_bytes, v->total_bytes) <= v->total_bytes / 256 &&
                !out->origin[GPU_FACT_MEMORY_USABLE].is_default;
    struct gpu_origin told = {
        f->driver ? arena_printf(a, "NVML, driver %s", f->driver) : "NVML", false};

    out->memory_total_bytes = v->total_bytes;
    out->origin[GPU_FACT_MEMORY_TOTAL] = told;
    if (same && out->memory_usable_bytes <= v->total_bytes)
        return;
    out->memory_usable_bytes = v->total_bytes - u64_min(v->reserved_bytes, v->total_bytes);
    out->origin[GPU_FACT_MEMORY_USABLE] = told;
}

static void tell(const struct nvml_facts *f, uint64_t count, const struct gpu *g, struct loc at,
                 struct diag *d)
{
    const struct nvml_device *v = &f->devices[0];
    uint64_t used = g->memory_usable_bytes - u64_min(v->free_bytes, g->memory_usable_bytes);
    uint32_t unlike = 0;
    char buf[32];

    for (uint32_t i = 1; i < f->n && i < u64_max(count, 1); i++)
        unlike += strcmp(f->devices[i].name, v->name) != 0 ||
                  distance(f->devices[i].total_bytes, v->total_bytes) > v->total_bytes / 256;
    if (used > IN_USE_BYTES)
        diag_add(d, DIAG_WARN, at,
                 "%s of the GPU's memory are in use now; hardware.memory_limit: %lluMiB plans "
                 "with what is free",
                 unit_format_bytes(used, buf, sizeof buf),
                 (unsigned long long)(v->free_bytes >> 20));
    if (count > f->n)
        diag_add(d, DIAG_WARN, at, "hardware.count is %llu, this machine has %u",
                 (unsigned long long)count, f->n);
    else if (!count && f->n > 1)
        diag_add(d, DIAG_NOTE, at,
                 "hardware.count is not given: one of this machine's %u GPUs is planned", f->n);
    if (unlike)
        diag_add(d, DIAG_WARN, at,
                 "the GPUs of this machine differ: all are planned as the first, %s", v->name);
}

bool gpu_local(struct arena *a, const struct gpu_local_in *in, struct diag *d, struct gpu *out)
{
    const struct profiles *p = in->profiles;
    struct loc at = in->at;
    struct nvml_facts f;
    const char *reason, *profile;

    if (in->facts)
        f = *in->facts;
    else if (!nvml_facts(a, &f, &reason))
        return diag_add(d, DIAG_DEVICE, at, "hardware.gpu: local: %s", reason);
    if (!f.devices[0].total_bytes)
        return diag_add(d, DIAG_DEVICE, at, "hardware.gpu: local: %s reports no memory",
                        f.devices[0].name);
    profile = gpu_local_profile(p, &f.devices[0], d);
    if (!(profile ? gpu_load(a, p, profile, at, d, out)
                  : without_profile(a, &f.devices[0], at, d, out)))
        return false;
    set_memory(a, &f, out);
    tell(&f, in->count, out, at, d);
    return true;
}
