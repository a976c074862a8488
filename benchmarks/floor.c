/*
 * The floor: the least work that starts a container on this kernel, in C, for the start benchmark to stand beside.
 *
 * Clones with new mount, UTS, IPC, PID, cgroup and (unless FLOOR_HOST_NET is set) network namespaces, mounts an overlay, /proc and a tmpfs on /dev
 * with its six nodes, pivots into it, executes the command and waits for it. No security: it is a measure, not a runtime.
 *
 *     cc -O2 -o floor floor.c
 *     floor LOWER UPPER WORK MERGED COMMAND [ARGUMENT...]
 *
 * The exit status is the command's; 125 where a step failed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(long result, const char *step)
{
    if (result < 0) {
        fprintf(stderr, "floor: %s: %s\n", step, strerror(errno));
        _exit(125);
    }
}

static void child(char **argv)
{
    static const struct { const char *path; int major, minor; } nodes[] = {
        {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7},
        {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
    };
    char options[8192];

    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make / private");
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s,index=off", argv[1], argv[2], argv[3]);
    must(mount("overlay", argv[4], "overlay", 0, options), "mount overlay");
    must(chdir(argv[4]), "chdir");
    mkdir("proc", 0755);
    mkdir("dev", 0755);
    must(mount("proc", "proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL), "mount proc");
    must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k"), "mount dev");
    umask(0);
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
        must(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), "mknod");
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(umount2(".", MNT_DETACH), "umount");
    must(chdir("/"), "chdir /");
    execv(argv[5], argv + 5);
    must(-1, "exec");
}

int main(int argc, char **argv)
{
    /* struct clone_args, as linux/sched.h has it; only flags and the exit signal are used. */
    uint64_t args[11] = {0};
    int status;
    long pid;

    if (argc < 6) {
        fprintf(stderr, "usage: floor LOWER UPPER WORK MERGED COMMAND [ARGUMENT...]\n");
        return 125;
    }
    args[0] = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWCGROUP;
    if (!getenv("FLOOR_HOST_NET"))
        args[0] |= CLONE_NEWNET;
    args[4] = SIGCHLD;
    pid = syscall(SYS_clone3, args, sizeof args);
    must(pid, "clone3");
    if (pid == 0)
        child(argv);
    must(waitpid((pid_t)pid, &status, 0), "wait");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
