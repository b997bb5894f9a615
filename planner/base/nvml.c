/* NVML through dlopen: a table of symbols, each looked up by its newest name first, and one
 * reading. What an old library does not have is left out where it can be. */
#include "planner/base/nvml.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/utf8.h"

#define LIBRARY "libnvidia-ml.so.1"

enum { NAME_BYTES = 96, DRIVER_BYTES = 80 };

/* nvmlMemory_t, and nvmlMemory_v2_t with its size and version in the first field. */
struct memory_v1 {
    unsigned long long total, free, used;
};
struct memory_v2 {
    unsigned version;
    unsigned long long total, reserved, free, used;
};
#define MEMORY_V2 ((unsigned)sizeof(struct memory_v2) | 2u << 24)

struct nvml {
    void *handle;
    const char *path;
    int (*init)(void);
    int (*shutdown)(void);
    const char *(*error)(int status);
    int (*driver)(char *text, unsigned size);
    int (*count)(unsigned *n);
    int (*device)(unsigned index, void **device);
    int (*name)(void *device, char *text, unsigned size);
    int (*memory_v1)(void *device, struct memory_v1 *m);
    int (*memory_v2)(void *device, struct memory_v2 *m);
    int (*capability)(void *device, int *major, int *minor);
    int (*link_generation)(void *device, unsigned *generation);
    int (*link_lanes)(void *device, unsigned *lanes);
    int (*temperature)(void *device, int sensor, unsigned *celsius);
    int (*clock)(void *device, int which, unsigned *mhz);
};

static const struct symbol {
    const char *names[2]; /* newest first */
    size_t offset;
    bool needed;
} symbols[] = {
    {{"nvmlInit_v2", "nvmlInit"}, offsetof(struct nvml, init), true},
    {{"nvmlShutdown", NULL}, offsetof(struct nvml, shutdown), true},
    {{"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"}, offsetof(struct nvml, count), true},
    {{"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"},
     offsetof(struct nvml, device),
     true},
    {{"nvmlDeviceGetName", NULL}, offsetof(struct nvml, name), true},
    {{"nvmlDeviceGetMemoryInfo", NULL}, offsetof(struct nvml, memory_v1), true},
    {{"nvmlDeviceGetMemoryInfo_v2", NULL}, offsetof(struct nvml, memory_v2), false},
    {{"nvmlErrorString", NULL}, offsetof(struct nvml, error), false},
    {{"nvmlSystemGetDriverVersion", NULL}, offsetof(struct nvml, driver), false},
    {{"nvmlDeviceGetCudaComputeCapability", NULL}, offsetof(struct nvml, capability), false},
    {{"nvmlDeviceGetMaxPcieLinkGeneration", NULL},
     offsetof(struct nvml, link_generation),
     false},
    {{"nvmlDeviceGetMaxPcieLinkWidth", NULL}, offsetof(struct nvml, link_lanes), false},
    {{"nvmlDeviceGetTemperature", NULL}, offsetof(struct nvml, temperature), false},
    {{"nvmlDeviceGetClockInfo", NULL}, offsetof(struct nvml, clock), false},
};

/* --- opening ------------------------------------------------------------------------------ */

/* POSIX says that a symbol's address may be kept as a function's; C has no cast for it. */
static const char *missing_symbol(struct nvml *lib)
{
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        const struct symbol *s = &symbols[i];
        void *at = dlsym(lib->handle, s->names[0]);
        if (!at && s->names[1])
            at = dlsym(lib->handle, s->names[1]);
        if (!at && s->needed)
            return s->names[0];
        memcpy((char *)lib + s->offset, &at, sizeof at);
    }
    return NULL;
}

static const char *status_text(const struct nvml *lib, struct arena *a, int status)
{
    const char *text = lib->error ? lib->error(status) : NULL;
    char *clean;

    if (!text)
        return arena_printf(a, "status %d", status);
    clean = arena_strdup(a, text);
    utf8_clean(clean, strlen(clean));
    return clean;
}

struct nvml *nvml_open(struct arena *a, const char **reason)
{
    const char *asked = getenv("KVBUDGET_NVML"), *missing;
    struct nvml *lib = ARENA_NEW(a, struct nvml, 1);
    int status;

    lib->path = asked && *asked ? arena_strdup(a, asked) : LIBRARY;
    lib->handle = dlopen(lib->path, RTLD_NOW | RTLD_LOCAL);
    if (!lib->handle) {
        *reason = asked && *asked
                      ? arena_printf(a, "%s (KVBUDGET_NVML) cannot be opened", lib->path)
                      : LIBRARY " cannot be opened; it comes with NVIDIA's driver";
        return NULL;
    }
    missing = missing_symbol(lib);
    status = missing ? 0 : lib->init();
    if (!missing && !status)
        return lib;
    *reason = missing ? arena_printf(a, "%s has no %s", lib->path, missing)
                      : arena_printf(a, "%s: %s", lib->path, status_text(lib, a, status));
    dlclose(lib->handle);
    return NULL;
}

void nvml_close(struct nvml *lib)
{
    if (!lib)
        return;
    lib->shutdown();
    dlclose(lib->handle);
}

/* --- reading ------------------------------------------------------------------------------ */

static const char *cleaned(struct arena *a, char *text, size_t size)
{
    text[size - 1] = '\0';
    utf8_clean(text, strlen(text));
    return arena_strdup(a, text);
}

static int read_memory(const struct nvml *lib, void *device, struct nvml_device *out)
{
    struct memory_v2 v2 = {.version = MEMORY_V2};
    struct memory_v1 v1 = {0};
    int status;

    if (lib->memory_v2 && !lib->memory_v2(device, &v2)) {
        out->total_bytes = v2.total;
        out->free_bytes = v2.free;
        out->reserved_bytes = v2.reserved;
        return 0;
    }
    status = lib->memory_v1(device, &v1);
    out->total_bytes = v1.total;
    out->free_bytes = v1.free;
    return status;
}

/* nvmlClockType_t: 1 = of the multiprocessors, 2 = of the memory. */
static uint32_t read_clock(const struct nvml *lib, void *device, int which)
{
    unsigned mhz = 0;

    return lib->clock && !lib->clock(device, which, &mhz) ? mhz : 0;
}

static int read_device(const struct nvml *lib, struct arena *a, unsigned index,
                       struct nvml_device *out)
{
    char name[NAME_BYTES] = "";
    unsigned generation = 0, lanes = 0, celsius = 0;
    void *device = NULL;
    int status = lib->device(index, &device);

    status = status ? status : lib->name(device, name, sizeof name);
    status = status ? status : read_memory(lib, device, out);
    if (status)
        return status;
    out->name = cleaned(a, name, sizeof name);
    if (lib->capability && lib->capability(device, &out->major, &out->minor))
        out->major = out->minor = 0;
    out->temperature_c = -1; /* of the chip: sensor 0 */
    if (lib->temperature && !lib->temperature(device, 0, &celsius) && celsius < 1000)
        out->temperature_c = (int)celsius;
    out->clock_mhz = read_clock(lib, device, 1);
    out->memory_clock_mhz = read_clock(lib, device, 2);
    if (lib->link_generation && lib->link_lanes && !lib->link_generation(device, &generation) &&
        !lib->link_lanes(device, &lanes)) {
        out->link_generation = generation;
        out->link_lanes = lanes;
    }
    return 0;
}

bool nvml_read(struct nvml *lib, struct arena *a, struct nvml_facts *out, const char **reason)
{
    char driver[DRIVER_BYTES] = "";
    struct nvml_device *devices;
    unsigned n = 0;
    int status = lib->count(&n);

    *out = (struct nvml_facts){0};
    if (status || !n) {
        *reason = status ? arena_printf(a, "%s: %s", lib->path, status_text(lib, a, status))
                         : arena_printf(a, "%s finds no device", lib->path);
        return false;
    }
    n = n < NVML_DEVICES_MAX ? n : NVML_DEVICES_MAX;
    devices = ARENA_NEW(a, struct nvml_device, n);
    for (unsigned i = 0; i < n; i++) {
        status = read_device(lib, a, i, &devices[i]);
        if (status) {
            *reason =
                arena_printf(a, "%s, device %u: %s", lib->path, i, status_text(lib, a, status));
            return false;
        }
    }
    if (lib->driver && !lib->driver(driver, sizeof driver))
        out->driver = cleaned(a, driver, sizeof driver);
    out->n = n;
    out->devices = devices;
    return true;
}

bool nvml_facts(struct arena *a, struct nvml_facts *out, const char **reason)
{
    struct nvml *lib = nvml_open(a, reason);
    bool ok = lib && nvml_read(lib, a, out, reason);

    nvml_close(lib);
    return ok;
}
