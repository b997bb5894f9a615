/* Products of tiles in shared memory by the 4 warps of a warpgroup, on the documented layouts
 * (PTX ISA, wgmma: 128-byte swizzle, fragments of m64). They are under way until waited for:
 * before, what they will write is not a number. */
#include "kernels/host/lane.h"

enum { TILE_ROWS = 128, M = 64, DEPTH_MAX = 192, BLOCK_BYTES = TILE_ROWS * 128 };

static float element(uint16_t h, bool fp16)
{
    return fp16 ? dev_from_fp16(h) : dev_float((uint32_t)h << 16);
}

/* Element `column` of a row of a tile: blocks of 64 columns, rows of 128 bytes, whose pieces of
 * 16 bytes are swapped by the row's number. */
static float tile_element(const void *tile, uint32_t row, uint32_t column, bool fp16)
{
    uint32_t piece = column % 64 / 8 ^ row % 8;
    uint32_t at = column / 64 * BLOCK_BYTES + row * 128 + piece * 16 + column % 8 * 2;
    uint16_t h;

    memcpy(&h, (const char *)tile + at, sizeof h);
    return element(h, fp16);
}

/* A thread's element i of a result, or of words taken two by two: rows g and g + 8 of its
 * warp's 16, columns 8 n + 2q, + 1. */
static uint32_t row_of(uint32_t thread, uint32_t i)
{
    return thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8;
}

static uint32_t column_of(uint32_t thread, uint32_t i)
{
    return i / 4 * 8 + thread % 4 * 2 + i % 2;
}

/* Four sums, so that an addition does not wait for the one before. */
static double dot(const double *x, const double *y, uint32_t depth)
{
    double sum[4] = {0, 0, 0, 0};

    for (uint32_t k = 0; k < depth; k += 4)
        for (uint32_t i = 0; i < 4; i++)
            sum[i] += x[k + i] * y[k + i];
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

static void multiply(struct lane *group, double a[M][DEPTH_MAX], double b[][DEPTH_MAX],
                     uint32_t depth)
{
    for (uint32_t t = 0; t < WARPGROUP; t++) {
        struct host_product *p = &group[t].products[group[t].n_products];
        const float *c = group[t].in.tile.c;
        for (uint32_t i = 0; i < p->n; i++)
            p->result[i] = (float)((c ? (double)c[i] : 0.0) +
                                   dot(a[row_of(t, i)], b[column_of(t, i)], depth));
    }
}

void host_tile_meeting(struct lane *group, bool scores)
{
    bool fp16 = group->in.tile.fp16;
    uint32_t depth = scores ? 16 * group->in.tile.size : TILE_ROWS;
    uint32_t columns = scores ? TILE_ROWS : group->in.tile.size;
    double a[M][DEPTH_MAX], b[TILE_ROWS][DEPTH_MAX];

    for (uint32_t n = 0; n < columns; n++)
        for (uint32_t k = 0; k < depth; k++)
            b[n][k] = tile_element(group->in.tile.b, scores ? n : k, scores ? k : n, fp16);
    for (uint32_t i = 0; scores && i < M * depth; i++)
        a[i / depth][i % depth] = tile_element(group->in.tile.a, i / depth, i % depth, fp16);
    for (uint32_t t = 0; !scores && t < WARPGROUP; t++) {
        const uint32_t *words = group[t].in.tile.a;
        for (uint32_t i = 0; i < depth / 2; i++) {
            uint16_t h = (uint16_t)(words[i / 2] >> 16 * (i % 2));
            a[row_of(t, i)][column_of(t, i)] = element(h, fp16);
        }
    }
    multiply(group, a, b, depth);
}

static void begin(struct lane *t, enum host_wait w, float *c, const char *place)
{
    struct host_product *p = &t->products[t->n_products];

    if (t->n_products == HOST_PRODUCTS_MAX)
        host_fault(t, place, "more than %d products of tiles under way", HOST_PRODUCTS_MAX);
    p->c = c;
    p->n = w == HOST_SCORES ? 64 : t->in.tile.size / 2;
    host_meet(t, w, 0, place);
    memset(c, 0xff, p->n * sizeof *c);
    t->n_products++;
}

void host_tile_scores(struct lane *t, float *x, const void *a, const void *b, uint32_t units,
                      bool fp16, const char *place)
{
    host_check_shared(t, (const char *)a + (units - 1) / 4 * BLOCK_BYTES, 1024, place);
    host_check_shared(t, (const char *)b + ((units + 3) / 4 * BLOCK_BYTES - 1024), 1024, place);
    if (16 * units > DEPTH_MAX)
        host_fault(t, place, "dot products of more than %d elements", DEPTH_MAX);
    t->in.tile.a = a;
    t->in.tile.b = b;
    t->in.tile.c = NULL;
    t->in.tile.size = units;
    t->in.tile.fp16 = fp16;
    begin(t, HOST_SCORES, x, place);
}

void host_tile_values(struct lane *t, float *o, uint32_t prob[][4], const void *v,
                      uint32_t columns, bool fp16, const char *place)
{
    host_check_shared(t, (const char *)v + (columns / 64 * BLOCK_BYTES - 1024), 1024, place);
    t->in.tile.a = prob;
    t->in.tile.b = v;
    t->in.tile.c = o;
    t->in.tile.size = columns;
    t->in.tile.fp16 = fp16;
    begin(t, HOST_VALUES, o, place);
}

void host_tile_wait(struct lane *t, uint32_t pending)
{
    uint32_t done = t->n_products > pending ? t->n_products - pending : 0;

    for (uint32_t i = 0; i < done; i++)
        memcpy(t->products[i].c, t->products[i].result, t->products[i].n * sizeof(float));
    t->n_products -= done;
    memmove(t->products, t->products + done, t->n_products * sizeof *t->products);
}
