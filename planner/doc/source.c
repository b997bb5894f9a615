/* Sources of bytes: files through pread, memory, and folders of files. What comes over a
 * network is in planner/model/hub.c. */
#include "planner/doc/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "planner/base/file.h"
#include "planner/base/unit.h"

enum { FILE_CHUNK_BYTES = 64 << 10 };

static struct loc whole(const char *name)
{
    return (struct loc){.file = name};
}

static bool read_file(struct source *s, uint64_t from, void *buf, size_t n, struct diag *d)
{
    size_t have = 0;

    while (have < n) {
        ssize_t got = pread(s->fd, (char *)buf + have, n - have, (off_t)(from + have));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return diag_add(d, DIAG_INPUT, whole(s->name), "cannot be read: %s",
                            strerror(errno));
        if (got == 0)
            return diag_add(d, DIAG_INPUT, whole(s->name), "became shorter while it was read");
        have += (size_t)got;
    }
    return true;
}

static void close_file(struct source *s)
{
    close(s->fd);
}

bool source_file(struct arena *a, const char *path, struct diag *d, struct source *out)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return diag_add(d, DIAG_INPUT, whole(path), "cannot be opened: %s", strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < 0) {
        close(fd);
        return diag_add(d, DIAG_INPUT, whole(path), "is no regular file");
    }
    *out = (struct source){.name = arena_strdup(a, path),
                           .size_bytes = (uint64_t)st.st_size,
                           .chunk_bytes = FILE_CHUNK_BYTES,
                           .read = read_file,
                           .close = close_file,
                           .fd = fd};
    return true;
}

static bool read_memory(struct source *s, uint64_t from, void *buf, size_t n, struct diag *d)
{
    (void)d;
    memcpy(buf, (const char *)s->data + from, n);
    return true;
}

void source_memory(const char *name, const void *data, size_t n, struct source *out)
{
    *out = (struct source){.name = name,
                           .size_bytes = n,
                           .chunk_bytes = FILE_CHUNK_BYTES,
                           .read = read_memory,
                           .data = data,
                           .fd = -1};
}

bool source_read(struct source *s, uint64_t from, void *buf, size_t n, struct diag *d)
{
    if (from > s->size_bytes || n > s->size_bytes - from)
        return diag_add(d, DIAG_INPUT, whole(s->name),
                        "ends after %" PRIu64 " bytes, within its header", s->size_bytes);
    return n == 0 || s->read(s, from, buf, n, d);
}

void source_close(struct source *s)
{
    if (s->close)
        s->close(s);
    s->close = NULL;
}

static enum store_answer open_in_folder(struct store *s, struct arena *a, const char *file,
                                        struct diag *d, struct source *out)
{
    const char *path = arena_printf(a, "%s/%s", s->name, file);

    if (!file_exists(path))
        return STORE_ABSENT;
    return source_file(a, path, d, out) ? STORE_FOUND : STORE_FAILED;
}

struct store store_folder(const char *path)
{
    return (struct store){.name = path, .open = open_in_folder};
}

enum store_answer store_text(struct store *s, struct arena *a, const char *file, size_t limit,
                             struct diag *d, char **text, size_t *n)
{
    struct source src;
    enum store_answer answer = s->open(s, a, file, d, &src);
    char size[32];
    bool ok;

    if (answer != STORE_FOUND)
        return answer;
    if (src.size_bytes > limit) {
        diag_add(d, DIAG_INPUT, whole(src.name),
                 "is longer than %s, the most that is read here",
                 unit_format_bytes((uint64_t)limit, size, sizeof size));
        source_close(&src);
        return STORE_FAILED;
    }
    *n = (size_t)src.size_bytes;
    *text = arena_alloc(a, *n + 1, 1);
    ok = source_read(&src, 0, *text, *n, d);
    source_close(&src);
    return ok ? STORE_FOUND : STORE_FAILED;
}
