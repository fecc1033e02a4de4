package sandbox

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// sealed is a path to a copy of bwrap, in memory, that nobody can write to. The first process of a box is bwrap, and so
// is /proc/1/exe: the file of this machine, by way of a mount of this machine, which no mount of the box makes
// read-only. Whoever owns the file could be written over by what runs in the box under the same user (CVE-2019-5736 of
// runc). Where it is another's, as root's is to everybody but root, it is run where it is: AppArmor knows it by its
// path, and a setuid bit is no good to a copy.
//
// The path names this process, which the engine's commands start from, and is good as long as it lives: the file is
// closed by its end alone.
func sealed(bwrap string) (string, error) {
	var info unix.Stat_t
	if err := unix.Stat(bwrap, &info); err != nil {
		return "", fmt.Errorf("%s: %w", bwrap, err)
	}
	if user := os.Geteuid(); user != 0 && uint32(user) != info.Uid { //nolint:gosec // a user's number is none below zero
		return bwrap, nil
	}
	text, err := os.ReadFile(bwrap) //nolint:gosec // found in PATH
	if err != nil {
		return "", err
	}
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("bwrap", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // Linux before 6.3 has no word for what it allows
		fd, err = unix.MemfdCreate("bwrap", flags)
	}
	for err == nil && len(text) > 0 {
		var n int
		n, err = unix.Write(fd, text)
		text = text[max(0, n):]
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS,
			unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		return "", fmt.Errorf("copy bwrap into memory: %w: nothing can be previewed: a change could write over %s, which is "+
			"this user's: run it as another user", err, bwrap)
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), nil
}
