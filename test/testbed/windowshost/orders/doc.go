// Package orders is a Windows service for the demonstration: a program in C with the
// Win32 API that shakes hands with the service control manager and answers HTTP.
//
// It owns the program's source and its build. The program reads one JSON file, whose
// path stands on its command line, when it starts; GET /healthz answers 200, and GET
// /orders answers JSON with what the file says, the PID and the time of the start.
//
// It must never be taken for more than a demonstration: it serves one request at a
// time and reads JSON by looking for names.
package orders
