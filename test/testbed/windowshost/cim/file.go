package cim

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wql"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
	"golang.org/x/sys/unix"
)

// Results of the methods of CIM_DataFile.
const (
	fileAccessDenied = 2
	fileFailure      = 8
	fileExists       = 10
	fileInvalid      = 21
)

var fileTypes = map[string]string{"exe": "Application", "dll": "Application Extension", "txt": "Text Document", "": "File"}

func (r *Repository) fileClass() *class {
	c := &class{name: "CIM_DataFile", namespaces: []string{"root/cimv2"}, keys: []string{"Name"}, find: r.files(isFile)}
	c.methods = map[string]method{"delete": onInstance(r.deleteFile), "rename": onInstance(r.renameFile)}
	return c
}

func (r *Repository) directoryClass() *class {
	return &class{name: "Win32_Directory", namespaces: []string{"root/cimv2"}, keys: []string{"Name"}, find: r.files(isDirectory)}
}

func isFile(mode fs.FileMode) bool { return mode.IsRegular() }

func isDirectory(mode fs.FileMode) bool { return mode.IsDir() }

// files finds files of one kind: those that a query names, those of a folder, or all
// that there are.
func (r *Repository) files(wanted func(fs.FileMode) bool) func(context.Context, *wql.Query) ([]object, error) {
	return func(ctx context.Context, query *wql.Query) ([]object, error) {
		var objects []object
		add := func(windows, path string) error {
			info, err := os.Lstat(path)
			if errors.Is(err, fs.ErrNotExist) || err == nil && !wanted(info.Mode()) {
				return nil
			}
			if err != nil {
				return err
			}
			objects = append(objects, r.file(windows, path, info))
			return ctx.Err()
		}
		names, some := query.Alternatives("Name")
		if !some {
			return objects, r.walk(query, add)
		}
		for _, name := range names {
			path, err := r.machine.Path(name)
			if err != nil {
				continue // There is no such file.
			}
			if err := add(name, path); err != nil {
				return nil, err
			}
		}
		return objects, nil
	}
}

// walk visits a folder that a query names by Path, or the whole drive.
func (r *Repository) walk(query *wql.Query, add func(windows, path string) error) error {
	start, deep := `C:\`, true
	if folders, ok := query.Alternatives("Path"); ok && len(folders) == 1 {
		start, deep = `C:`+folders[0], false
	}
	root, err := r.machine.Path(start)
	if err != nil {
		return nil //nolint:nilerr // there is no such folder, so there are no files in it
	}
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return nil //nolint:nilerr // what cannot be read is not there, as on Windows
		}
		windows := strings.TrimSuffix(start, `\`) + strings.ReplaceAll(strings.TrimPrefix(path, root), "/", `\`)
		if err := add(windows, path); err != nil {
			return err
		}
		if entry.IsDir() && !deep {
			return fs.SkipDir
		}
		return nil
	})
}

// file makes an object of a file. WMI has names in lower case.
func (r *Repository) file(windows, path string, info fs.FileInfo) object {
	full := strings.ToLower(strings.ReplaceAll(windows, "/", `\`))
	slash := strings.LastIndexByte(full, '\\')
	base := full[slash+1:]
	extension := ""
	if dot := strings.LastIndexByte(base, '.'); dot >= 0 {
		base, extension = base[:dot], base[dot+1:]
	}
	kind, ok := fileTypes[extension]
	if !ok {
		kind = strings.ToUpper(extension) + " File"
	}
	created, accessed := times(path, info)
	writable := info.Mode()&0o200 != 0
	o := object{
		"Archive": !info.IsDir(), "Caption": full, "Compressed": false, "CreationClassName": "CIM_LogicalFile", "CreationDate": created,
		"CSCreationClassName": "Win32_ComputerSystem", "CSName": r.name, "Description": full, "Drive": full[:2], "Encrypted": false,
		"Extension": extension, "FileName": base, "FileSize": uint64(info.Size()), "FileType": kind, "FSCreationClassName": "Win32_FileSystem",
		"FSName": "NTFS", "Hidden": false, "InstallDate": created, "InUseCount": nil, "LastAccessed": accessed,
		"LastModified": info.ModTime(), "Name": full, "Path": full[2 : slash+1], "Readable": true, "Status": "OK", "System": false,
		"Writeable": writable,
	}
	if info.IsDir() {
		o["FileSize"], o["FileType"], o["CreationClassName"] = nil, "File Folder", "Win32_Directory"
	} else {
		o["Manufacturer"], o["Version"] = nil, nil
	}
	return o
}

// times are a file's birth and last access.
func times(path string, info fs.FileInfo) (created, accessed time.Time) {
	var s unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME|unix.STATX_ATIME, &s); err != nil || s.Mask&unix.STATX_BTIME == 0 {
		return info.ModTime(), info.ModTime()
	}
	return time.Unix(s.Btime.Sec, int64(s.Btime.Nsec)), time.Unix(s.Atime.Sec, int64(s.Atime.Nsec))
}

// Running tells whether a file is the program of a process: Windows locks it then.
func (r *Repository) Running(ctx context.Context, windows string) (bool, error) {
	processes, err := r.processes(ctx, nil)
	if err != nil {
		return false, err
	}
	for _, p := range processes {
		if path, ok := p["ExecutablePath"].(string); ok && strings.EqualFold(path, strings.ReplaceAll(windows, "/", `\`)) {
			return true, nil
		}
	}
	return false, nil
}

func (r *Repository) deleteFile(ctx context.Context, on object, _ wsman.Parameters) (object, error) {
	name := on["Name"].(string)
	inUse, err := r.Running(ctx, name)
	if err != nil {
		return nil, err
	}
	path, err := r.machine.Path(name)
	if err != nil {
		return nil, err
	}
	if inUse || on["Writeable"] == false {
		return returned(fileAccessDenied), nil
	}
	if err := os.Remove(path); err != nil {
		return returned(fileFailure), nil //nolint:nilerr // the result says so
	}
	return returned(0), nil
}

func (r *Repository) renameFile(_ context.Context, on object, in wsman.Parameters) (object, error) {
	from, err := r.machine.Path(on["Name"].(string))
	if err != nil {
		return nil, err
	}
	to, err := r.machine.Path(one(in, "FileName", ""))
	if err != nil {
		return returned(fileInvalid), nil //nolint:nilerr // the result says so
	}
	if _, err := os.Lstat(to); err == nil {
		return returned(fileExists), nil
	}
	if err := os.Rename(from, to); err != nil {
		return returned(fileFailure), nil //nolint:nilerr // the result says so
	}
	return returned(0), nil
}
