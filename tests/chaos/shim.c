/* Writes down, in order, what a process does to files and connections: LD_PRELOAD=shim.so.

   SHIM_FOLDER: only files in this folder are told of. SHIM_LOG: where to. Each record is one line
   of text, and the bytes that it speaks of:
       KIND DESCRIPTOR OFFSET LENGTH PATH\n  then LENGTH bytes
   KIND: W written to a file (told after it happened), T cut to OFFSET bytes (after), S a sync
   begins, D that sync is done, R came from a connection (after), A is about to be sent there.
   One lock is held while a record is written, so the order of the log is an order of events. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int out = -1;
static const char *folder;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void begin(void) {
    const char *log = getenv("SHIM_LOG");
    folder = getenv("SHIM_FOLDER");
    if (log && folder)
        out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* The system call itself: this must not be seen by the functions below. */
static void put(const void *bytes, size_t length) {
    while (length > 0) {
        ssize_t done = syscall(SYS_write, out, bytes, length);
        if (done <= 0)
            abort();
        bytes = (const char *)bytes + done;
        length -= (size_t)done;
    }
}

static void tell(char kind, int fd, long long at, const struct iovec *parts, int count,
                 size_t length, const char *path) {
    char head[PATH_MAX + 100];
    int size = snprintf(head, sizeof head, "%c %d %lld %zu %s\n", kind, fd, at, length, path);
    pthread_mutex_lock(&lock);
    put(head, (size_t)size);
    for (int i = 0; i < count && length > 0; i++) {
        size_t part = parts[i].iov_len < length ? parts[i].iov_len : length;
        put(parts[i].iov_base, part);
        length -= part;
    }
    pthread_mutex_unlock(&lock);
}

static int is_connection(int fd) {
    struct stat status;
    return out >= 0 && fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

/* The path of a descriptor in the folder, or 0. */
static int is_ours(int fd, char *path) {
    char link[64];
    if (out < 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

static void tell_connection(char kind, int fd, const struct iovec *parts, int count,
                            ssize_t length) {
    if (length > 0 && is_connection(fd))
        tell(kind, fd, 0, parts, count, (size_t)length, "-");
}

static size_t sum(const struct iovec *parts, int count) {
    size_t all = 0;
    for (int i = 0; i < count; i++)
        all += parts[i].iov_len;
    return all;
}

/* --- files ------------------------------------------------------------------------------- */

static void tell_file(char kind, int fd, long long at, const void *bytes, ssize_t length) {
    char path[PATH_MAX + 1];
    struct iovec part = {(void *)bytes, length > 0 ? (size_t)length : 0};
    if (length >= 0 && is_ours(fd, path))
        tell(kind, fd, at, &part, 1, part.iov_len, path);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    ssize_t done = REAL(pwrite64)(fd, bytes, length, at);
    tell_file('W', fd, at, bytes, done);
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return pwrite64(fd, bytes, length, at);
}

int ftruncate64(int fd, off64_t length) {
    int failed = REAL(ftruncate64)(fd, length);
    if (!failed)
        tell_file('T', fd, length, "", 0);
    return failed;
}

int ftruncate(int fd, off_t length) {
    return ftruncate64(fd, length);
}

int fdatasync(int fd) {
    tell_file('S', fd, 0, "", 0);
    int failed = REAL(fdatasync)(fd);
    if (!failed)
        tell_file('D', fd, 0, "", 0);
    return failed;
}

int fsync(int fd) {
    tell_file('S', fd, 0, "", 0);
    int failed = REAL(fsync)(fd);
    if (!failed)
        tell_file('D', fd, 0, "", 0);
    return failed;
}

/* --- connections --------------------------------------------------------------------------- */

ssize_t write(int fd, const void *bytes, size_t length) {
    struct iovec part = {(void *)bytes, length};
    tell_connection('A', fd, &part, 1, (ssize_t)length);
    ssize_t done = REAL(write)(fd, bytes, length);
    if (done > 0 && !is_connection(fd))
        tell_file('W', fd, lseek(fd, 0, SEEK_CUR) - done, bytes, done);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    tell_connection('A', fd, parts, count, (ssize_t)sum(parts, count));
    return REAL(writev)(fd, parts, count);
}

ssize_t send(int fd, const void *bytes, size_t length, int flags) {
    struct iovec part = {(void *)bytes, length};
    tell_connection('A', fd, &part, 1, (ssize_t)length);
    return REAL(send)(fd, bytes, length, flags);
}

ssize_t sendto(int fd, const void *bytes, size_t length, int flags, const struct sockaddr *to,
               socklen_t size) {
    struct iovec part = {(void *)bytes, length};
    tell_connection('A', fd, &part, 1, (ssize_t)length);
    return REAL(sendto)(fd, bytes, length, flags, to, size);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    int count = (int)message->msg_iovlen;
    tell_connection('A', fd, message->msg_iov, count, (ssize_t)sum(message->msg_iov, count));
    return REAL(sendmsg)(fd, message, flags);
}

ssize_t read(int fd, void *bytes, size_t length) {
    ssize_t done = REAL(read)(fd, bytes, length);
    struct iovec part = {bytes, length};
    tell_connection('R', fd, &part, 1, done);
    return done;
}

ssize_t recv(int fd, void *bytes, size_t length, int flags) {
    ssize_t done = REAL(recv)(fd, bytes, length, flags);
    struct iovec part = {bytes, length};
    tell_connection('R', fd, &part, 1, done);
    return done;
}

ssize_t recvfrom(int fd, void *bytes, size_t length, int flags, struct sockaddr *from,
                 socklen_t *size) {
    ssize_t done = REAL(recvfrom)(fd, bytes, length, flags, from, size);
    struct iovec part = {bytes, length};
    tell_connection('R', fd, &part, 1, done);
    return done;
}
