// Package wine runs a Windows machine's insides on Linux: a Wine prefix of its own
// with a real C: drive, registry, processes and service control manager.
//
// It owns the prefix (a copy of one that was booted once and is kept in the cache),
// the Wine server, and three programs in C with the Win32 API that are built with
// mingw and placed in the prefix:
//
//   - wbem\WmiPrvSE.exe, kept running, through which the Go side reads and changes
//     services, processes and the registry (Provider);
//   - winrshost.exe, which runs one command of a remote shell with its 32-bit exit
//     code and ends all that the command has started (Program);
//   - sc.exe, in place of Wine's own, with the verbs and exit codes of Windows.
//
// What Wine 8 cannot keep of a service (delayed start, dependencies, recovery
// actions) is kept in the registry values in which Windows itself keeps it. Nothing
// acts on those three: recovery actions never run, and a delayed service starts with
// the others.
//
// It promises that nothing it starts outlives Shutdown or the death of its owner:
// the Wine server is a recorded child and ends every Wine process when it ends. A
// machine whose server has died stays off until Start. It needs no display and no
// root, and does not see the user's own Wine.
//
// It must never touch a file outside of its directory: the prefix has no Z: drive,
// and Path refuses to leave C:.
package wine
