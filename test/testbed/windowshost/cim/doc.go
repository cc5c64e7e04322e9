// Package cim answers for the CIM classes of a Windows host out of the Wine machine
// behind it:
//
//   - root/cimv2: Win32_Service, Win32_Process, Win32_OperatingSystem,
//     Win32_ComputerSystem, CIM_DataFile and Win32_Directory;
//   - root/default and root/cimv2: StdRegProv.
//
// It owns the translation between the Win32 API's results and the properties, method
// results and faults that WMI documents, and the journal of effects: one line for
// each service or process that was really created, changed, started, stopped or
// deleted, in a file on the machine's own drive, to which its sc.exe adds too.
//
// It promises that services, processes, registry values and files are real: a
// state is what the service manager says, a PID that of a process, a size that of a
// file. What is not as on Windows, as far as known: accounts and their passwords are
// taken without a check; a service's dependencies are shown and kept but not acted
// on, so the results 3, 12 and 13 do not occur; a file's attributes are only those
// that Linux knows, and CIM_DataFile.Delete does not notice a file that is open,
// except a program that runs; of the many properties of each class the common ones
// are there.
//
// It must never let a request reach a file outside of the machine's drive.
package cim
