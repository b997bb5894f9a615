/* Does what no kernel may: touches device memory without dev.h. Argument: load, store or none.
 */
#include <string.h>

#include "kernels/device.h"

int main(int argc, char **argv)
{
    struct device_options o = {0};
    struct device_text why;
    struct device *d;
    volatile uint32_t host = 1, *p;
    void *memory;

    if (argc != 2 || device_open("cpu", &o, &d, &why) != DEVICE_OK ||
        device_alloc(d, 64, TAG_K, &memory) != DEVICE_OK)
        return 3;
    p = strcmp(argv[1], "none") ? memory : &host;
    if (!strcmp(argv[1], "load"))
        host = p[3];
    else
        p[0] = host;
    device_close(d);
    return 0;
}
