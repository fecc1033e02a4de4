// The program of a change that tries to get out of its box. What it is to try is in wanted.json, what it got in got.json.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

type wanted struct {
	Read, List, Write, Open, Dial []string
	Pid                           int
	Overwrite                     bool
}

type got struct {
	Read, List                map[string]string
	Written, Opened, Dialed   []string
	Signalled                 bool
	Processes, Env, Arguments []string
	// Executables are the device, the file and what came of a try to write, of each process.
	Executables map[string]string
	Limits      map[string]uint64
}

func main() {
	var w wanted
	text, err := os.ReadFile("wanted.json")
	if err == nil {
		err = json.Unmarshal(text, &w)
	}
	check(err)
	if len(os.Args) > 1 && os.Args[1] == "nested" {
		remount(w)
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "overwrite" {
		overwrite()
		return
	}
	g := got{Read: map[string]string{}, List: map[string]string{}, Env: os.Environ(), Arguments: os.Args[1:]}
	processes, err := filepath.Glob("/proc/[0-9]*/environ")
	check(err)
	g.Processes = processes
	for _, path := range append(w.Read, processes...) {
		text, _ := os.ReadFile(path)
		g.Read[path] = string(text)
	}
	for _, path := range w.List {
		entries, err := os.ReadDir(path)
		if err != nil {
			continue
		}
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		g.List[path] = strings.Join(names, " ")
	}
	g.Executables = executables()
	g.Limits = limits()
	remount(w)
	// Once more as root of a namespace of its own.
	nested := exec.Command("/proc/self/exe", "nested")
	nested.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
	}
	_ = nested.Run()
	for _, path := range w.Write {
		if _, err := os.Stat(path + "/escaped"); err == nil {
			g.Written = append(g.Written, path)
		}
	}
	for _, path := range w.Open {
		if file, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			g.Opened = append(g.Opened, path)
			_ = file.Close()
		}
	}
	for _, address := range w.Dial {
		network := "tcp"
		if strings.HasPrefix(address, "@") {
			network = "unix"
		}
		if conn, err := net.DialTimeout(network, address, time.Second); err == nil {
			g.Dialed = append(g.Dialed, address)
			_ = conn.Close()
		}
	}
	g.Signalled = syscall.Kill(w.Pid, 0) == nil
	text, err = json.Marshal(g)
	check(err)
	check(os.WriteFile("got.json", text, 0o600))
	if w.Overwrite {
		// It is there when the first process of the box, whose file cannot be written to while it runs, is no more.
		check(exec.Command("/proc/self/exe", "overwrite").Start())
		time.Sleep(100 * time.Millisecond)
	}
	fmt.Println(`{"summaryEvent":{}}`)
}

// remount tries to write where it may not, after a try to be allowed to.
func remount(w wanted) {
	for _, path := range w.Write {
		_ = syscall.Mount("", path, "", syscall.MS_REMOUNT|syscall.MS_BIND, "")
		_ = os.WriteFile(path+"/escaped", nil, 0o600)
	}
}

func executables() map[string]string {
	found := map[string]string{}
	paths, err := filepath.Glob("/proc/[0-9]*/exe")
	check(err)
	for _, path := range paths {
		var info syscall.Stat_t
		if err := syscall.Stat(path, &info); err != nil {
			found[path] = err.Error()
			continue
		}
		_, err := os.OpenFile(path, os.O_WRONLY, 0)
		found[path] = fmt.Sprintf("%d:%d %v", info.Dev, info.Ino, err)
	}
	return found
}

// overwrite writes over the file that the first process was started from, as soon as it can.
func overwrite() {
	file, err := os.Open("/proc/1/exe")
	check(err)
	path := fmt.Sprintf("/proc/self/fd/%d", file.Fd())
	for {
		if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			_, _ = f.WriteString("overwritten")
			_ = f.Close()
		}
	}
}

func limits() map[string]uint64 {
	found := map[string]uint64{}
	for name, number := range map[string]int{
		"core": syscall.RLIMIT_CORE, "data": syscall.RLIMIT_DATA, "file": syscall.RLIMIT_FSIZE,
		"open files": syscall.RLIMIT_NOFILE, "processes": 6,
	} {
		var limit syscall.Rlimit
		check(syscall.Getrlimit(number, &limit))
		found[name] = limit.Max
	}
	var memory syscall.Statfs_t
	check(syscall.Statfs("/tmp", &memory))
	found["/tmp"] = memory.Blocks * uint64(memory.Bsize)
	return found
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
