/* Files: reading with a limit, and writing through a temporary name in the same folder, so that
 * whoever looks sees the old file or the whole new one. Devices and pipes are written in place.
 */
#include "planner/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "planner/base/unit.h"

static struct loc whole(const char *path)
{
    return (struct loc){.file = path};
}

bool file_exists(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0;
}

bool file_is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Reads to the end of the file, at most limit + 1 bytes; -1 with errno on failure. */
static int read_all(struct arena *a, int fd, size_t limit, char **text, size_t *n)
{
    size_t cap = 16384;
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
        cap = (uintmax_t)st.st_size < limit ? (size_t)st.st_size : limit;
    *text = arena_alloc(a, cap + 2, 1);
    *n = 0;
    while (*n <= limit) {
        ssize_t got;

        if (*n == cap + 1) {
            *text = arena_grow(a, *text, *n, cap * 2 + 2, 1);
            cap *= 2;
        }
        got = read(fd, *text + *n, cap + 1 - *n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return (int)got;
        *n += (size_t)got;
    }
    return 0;
}

bool file_read(struct arena *a, const char *path, size_t limit, struct diag *d, char **text,
               size_t *n)
{
    bool standard = strcmp(path, "-") == 0;
    struct loc at = whole(standard ? "<stdin>" : path);
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    char size[32];
    int rc, why;

    if (fd < 0)
        return diag_add(d, DIAG_INPUT, at, "cannot be opened: %s", strerror(errno));
    rc = read_all(a, fd, limit, text, n);
    why = errno;
    if (!standard)
        close(fd);
    if (rc < 0)
        return diag_add(d, DIAG_INPUT, at, "cannot be read: %s", strerror(why));
    if (*n > limit)
        return diag_add(d, DIAG_INPUT, at, "is longer than %s, the most that is read here",
                        unit_format_bytes((uint64_t)limit, size, sizeof size));
    (*text)[*n] = '\0';
    return true;
}

/* Opens a new file beside `path`, with the permissions of the one it will replace. */
static FILE *open_beside(struct arena *a, const char *path, const struct stat *old,
                         char **temporary)
{
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash - path) + 1 : 0;
    FILE *f;
    int fd = -1;

    for (int i = 0; i < 100 && fd < 0; i++) {
        *temporary = arena_printf(a, "%.*s.%s.%ld.%d.tmp", folder, path, path + folder,
                                  (long)getpid(), i);
        fd = open(*temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST)
            return NULL;
    }
    if (fd < 0)
        return NULL;
    if (old && fchmod(fd, old->st_mode & 0777) != 0)
        errno = 0; /* not ours to change: the usual permissions do */
    f = fdopen(fd, "w");
    if (!f) {
        close(fd);
        unlink(*temporary);
    }
    return f;
}

/* The file a link leads to, so that the link stays one. */
static char *follow(struct arena *a, const char *path)
{
    char *real = realpath(path, NULL);
    char *copy = arena_strdup(a, real ? real : path);

    free(real);
    return copy;
}

bool file_create(struct arena *a, const char *path, FILE *standard, struct diag *d,
                 struct file_out *out)
{
    struct stat st;
    bool there;

    *out = (struct file_out){.f = standard};
    if (!path || strcmp(path, "-") == 0)
        return true;
    out->path = follow(a, path);
    there = stat(out->path, &st) == 0;
    if (there && S_ISDIR(st.st_mode))
        errno = EISDIR, out->f = NULL;
    else if (there && !S_ISREG(st.st_mode))
        out->f = fopen(out->path, "w");
    else
        out->f = open_beside(a, out->path, there ? &st : NULL, &out->temporary);
    if (out->f)
        return true;
    *out = (struct file_out){0};
    return diag_add(d, DIAG_OUTPUT, whole(path), "cannot be written: %s", strerror(errno));
}

bool file_commit(struct file_out *out, struct diag *d)
{
    struct loc at = whole(out->path ? out->path : "<stdout>");
    bool ok;
    int why;

    errno = 0;
    ok = fflush(out->f) == 0 && !ferror(out->f);
    if (ok && out->temporary)
        ok = fsync(fileno(out->f)) == 0 || errno == EINVAL || errno == ENOSYS;
    why = errno;
    if (out->path && fclose(out->f) != 0 && ok) {
        ok = false;
        why = errno;
    }
    if (ok && out->temporary && rename(out->temporary, out->path) != 0) {
        ok = false;
        why = errno;
    }
    if (!ok && out->temporary)
        unlink(out->temporary);
    *out = (struct file_out){0};
    if (ok)
        return true;
    return diag_add(d, DIAG_OUTPUT, at, "cannot be written: %s",
                    why ? strerror(why) : "an earlier write failed");
}

void file_abandon(struct file_out *out)
{
    if (out->path && out->f)
        fclose(out->f);
    if (out->temporary)
        unlink(out->temporary);
    *out = (struct file_out){0};
}
