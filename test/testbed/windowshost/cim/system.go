package cim

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wql"
)

// What the machine says it is. The caption is open about what it stands for.
const (
	caption = "Microsoft Windows Server 2022 (Isthmus test bed, on Wine)"
	version = "10.0.20348"
	build   = "20348"
)

func (r *Repository) operatingSystemClass() *class {
	return &class{name: "Win32_OperatingSystem", namespaces: []string{"root/cimv2"}, find: r.operatingSystem}
}

func (r *Repository) operatingSystem(ctx context.Context, _ *wql.Query) ([]object, error) {
	memory, err := memory()
	if err != nil {
		return nil, err
	}
	processes, err := r.call(ctx, "processes")
	if err != nil {
		return nil, err
	}
	return []object{{
		"BootDevice": `\Device\HarddiskVolume1`, "BuildNumber": build, "BuildType": "Multiprocessor Free", "Caption": caption,
		"CodeSet": "1252", "CountryCode": "1", "CreationClassName": "Win32_OperatingSystem",
		"CSCreationClassName": "Win32_ComputerSystem", "CSName": r.name, "CurrentTimeZone": 0, "Description": "",
		"FreePhysicalMemory": memory["MemAvailable"], "InstallDate": nil, "LastBootUpTime": r.booted(), "LocalDateTime": time.Now(),
		"Locale": "0409", "Manufacturer": "Isthmus", "Name": caption + `|C:\Windows|\Device\Harddisk0\Partition1`,
		"NumberOfProcesses": len(processes.Records), "OSArchitecture": "64-bit", "OSLanguage": 1033, "OSType": 18,
		"ProductType": 3, "Status": "OK", "SystemDirectory": `C:\Windows\system32`, "SystemDrive": "C:",
		"TotalVisibleMemorySize": memory["MemTotal"], "Version": version, "WindowsDirectory": `C:\Windows`,
	}}, nil
}

func (r *Repository) computerSystemClass() *class {
	return &class{name: "Win32_ComputerSystem", namespaces: []string{"root/cimv2"}, keys: []string{"Name"}, find: r.computerSystem}
}

func (r *Repository) computerSystem(context.Context, *wql.Query) ([]object, error) {
	memory, err := memory()
	if err != nil {
		return nil, err
	}
	return []object{{
		"Caption": r.name, "CreationClassName": "Win32_ComputerSystem", "CurrentTimeZone": 0, "Description": "AT/AT COMPATIBLE",
		"DNSHostName": r.name, "Domain": "WORKGROUP", "DomainRole": 2, "Manufacturer": "Isthmus", "Model": "Test bed", "Name": r.name,
		"NumberOfLogicalProcessors": runtime.NumCPU(), "NumberOfProcessors": 1, "PartOfDomain": false, "PrimaryOwnerName": nil,
		"Status": "OK", "SystemType": "x64-based PC", "TotalPhysicalMemory": memory["MemTotal"] << 10, "Workgroup": "WORKGROUP",
	}}, nil
}

// memory reads /proc/meminfo, in KiB.
func memory() (map[string]uint64, error) {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return nil, fmt.Errorf("read the size of memory: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	values := map[string]uint64{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		if fields := strings.Fields(rest); len(fields) > 0 {
			values[name], _ = strconv.ParseUint(fields[0], 10, 64) // 0 for what is no number
		}
	}
	return values, nil
}
