/* A stand-in for libnvidia-ml.so.1. tests/unit/nvml.c compiles it and selects what it does:
 *   DEVICES=n      so many devices (2): an H100 with memory in use, then one nobody knows
 *   UNKNOWN_FIRST  the first device is the one nobody knows
 *   FAIL_INIT      no driver is loaded
 *   FAIL_DEVICE    the second device is lost
 *   NO_NAME        a symbol that is needed is missing
 *   OLD            only the symbols of the first version, no driver version, no capability */
#include <stddef.h>
#include <string.h>

#ifndef DEVICES
#define DEVICES 2
#endif

struct memory_v1 {
    unsigned long long total, free, used;
};
struct memory_v2 {
    unsigned version;
    unsigned long long total, reserved, free, used;
};

enum { UNKNOWN = 999, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, VERSION_MISMATCH = 25 };

static const char *const names[] = {"NVIDIA H100 80GB HBM3", "NVIDIA Prototype 9"};
static int devices[2], started;

static int index_of(const void *device)
{
#ifdef UNKNOWN_FIRST
    return device == &devices[0];
#else
    return device == &devices[1];
#endif
}

static int copy(char *to, unsigned size, const char *text)
{
    if (strlen(text) >= size)
        return UNKNOWN;
    memcpy(to, text, strlen(text) + 1);
    return 0;
}

static int init(void)
{
#ifdef FAIL_INIT
    return DRIVER_NOT_LOADED;
#else
    started = 1;
    return 0;
#endif
}

static int count(unsigned *n)
{
    *n = DEVICES;
    return started ? 0 : UNKNOWN;
}

static int device_at(unsigned i, void **device)
{
#ifdef FAIL_DEVICE
    if (i == 1)
        return GPU_IS_LOST;
#endif
    *device = &devices[i];
    return i < DEVICES ? 0 : UNKNOWN;
}

int nvmlShutdown(void)
{
    started = 0;
    return 0;
}

#ifndef NO_NAME
int nvmlDeviceGetName(const void *device, char *text, unsigned size)
{
    return copy(text, size, names[index_of(device)]);
}
#endif

int nvmlDeviceGetMemoryInfo(const void *device, struct memory_v1 *m)
{
    (void)device;
    *m = (struct memory_v1){16ull << 30, 15ull << 30, 1ull << 30};
    return 0;
}

#ifdef OLD
int nvmlInit(void)
{
    return init();
}
int nvmlDeviceGetCount(unsigned *n)
{
    return count(n);
}
int nvmlDeviceGetHandleByIndex(unsigned i, void **device)
{
    return device_at(i, device);
}
#else
int nvmlInit_v2(void)
{
    return init();
}
int nvmlDeviceGetCount_v2(unsigned *n)
{
    return count(n);
}
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **device)
{
    return device_at(i, device);
}

int nvmlDeviceGetClockInfo(const void *device, int which, unsigned *mhz)
{
    *mhz = which == 1 ? 1980 : which == 2 ? 2619 : 0;
    return index_of(device) ? UNKNOWN : 0;
}

/* 81559 MiB, as an H100 has, 551 of them reserved and 20000 in use; 48 GiB and nothing. */
int nvmlDeviceGetMemoryInfo_v2(const void *device, struct memory_v2 *m)
{
    static const unsigned long long mib = 1 << 20;

    if (m->version != (sizeof *m | 2u << 24))
        return VERSION_MISMATCH;
    if (index_of(device)) {
        m->total = 49152 * mib;
        m->reserved = 512 * mib;
        m->used = 0;
    } else {
        m->total = 81559 * mib;
        m->reserved = 551 * mib;
        m->used = 20000 * mib;
    }
    m->free = m->total - m->reserved - m->used;
    return 0;
}

const char *nvmlErrorString(int status)
{
    return status == DRIVER_NOT_LOADED ? "Driver Not Loaded"
           : status == GPU_IS_LOST ? "GPU is lost"
                                   : "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *text, unsigned size)
{
    return copy(text, size, "570.86.10");
}

/* 41 degrees; the second device has no sensor. */
int nvmlDeviceGetTemperature(const void *device, int sensor, unsigned *celsius)
{
    *celsius = 41;
    return sensor == 0 && !index_of(device) ? 0 : UNKNOWN;
}

int nvmlDeviceGetCudaComputeCapability(const void *device, int *major, int *minor)
{
    *major = index_of(device) ? 12 : 9;
    *minor = 0;
    return 0;
}

int nvmlDeviceGetMaxPcieLinkGeneration(const void *device, unsigned *generation)
{
    (void)device;
    *generation = 5;
    return 0;
}

int nvmlDeviceGetMaxPcieLinkWidth(const void *device, unsigned *lanes)
{
    (void)device;
    *lanes = 16;
    return 0;
}
#endif
