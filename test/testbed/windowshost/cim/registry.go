package cim

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wsman"
)

// localMachine is HKEY_LOCAL_MACHINE, which is also the default of StdRegProv.
const localMachine = "2147483650"

// Types of registry values.
const (
	typeString       = "1"
	typeExpandString = "2"
	typeBinary       = "3"
	typeDWORD        = "4"
	typeMultiString  = "7"

	// unsupportedType is ERROR_UNSUPPORTED_TYPE, for a value of another type than was asked for.
	unsupportedType = 1630
)

// valueType is how values of one type are read and written.
type valueType struct {
	number    string
	parameter string // that holds the value
	decode    func(data []byte) any
	encode    func(values []string) (string, bool)
}

func (r *Repository) registryClass() *class {
	c := &class{name: "StdRegProv", namespaces: []string{"root/default", "root/cimv2"}}
	c.methods = map[string]method{
		"deletevalue": r.onValue("registry-delete"),
		"createkey":   r.onKey("registry-create-key"),
		"deletekey":   r.onKey("registry-delete-key"),
		"enumkey":     r.list("registry-keys"),
		"enumvalues":  r.list("registry-values"),
	}
	for name, v := range map[string]valueType{
		"stringvalue":         {typeString, "sValue", decodeString, encodeString},
		"expandedstringvalue": {typeExpandString, "sValue", decodeString, encodeString},
		"multistringvalue":    {typeMultiString, "sValue", decodeMultiString, func(values []string) (string, bool) { return multiString(values), true }},
		"dwordvalue":          {typeDWORD, "uValue", decodeDWORD, encodeDWORD},
		"binaryvalue":         {typeBinary, "uValue", decodeBinary, encodeBinary},
	} {
		c.methods["get"+name] = r.getValue(v)
		c.methods["set"+name] = r.setValue(v)
	}
	return c
}

// where are the hive and the key that a method is about.
func where(in wsman.Parameters) []string {
	return []string{one(in, "hDefKey", localMachine), one(in, "sSubKeyName", "")}
}

func (r *Repository) getValue(v valueType) method {
	return func(ctx context.Context, _ object, in wsman.Parameters) (object, error) {
		answer, err := r.call(ctx, "registry-get", append(where(in), one(in, "sValueName", ""))...)
		if err != nil {
			return nil, err
		}
		if answer.Code != 0 {
			return object{v.parameter: nil, "ReturnValue": answer.Code}, nil
		}
		data, err := hex.DecodeString(strings.TrimPrefix(answer.Words[1], "-"))
		if err != nil {
			return nil, err
		}
		// A string is read whether or not it has variables to expand.
		same := answer.Words[0] == v.number || v.parameter == "sValue" && answer.Words[0] <= typeExpandString && v.number <= typeExpandString
		if !same {
			return object{v.parameter: nil, "ReturnValue": uint32(unsupportedType)}, nil
		}
		return object{v.parameter: v.decode(data), "ReturnValue": uint32(0)}, nil
	}
}

func (r *Repository) setValue(v valueType) method {
	return func(ctx context.Context, _ object, in wsman.Parameters) (object, error) {
		data, ok := v.encode(in[v.parameter])
		if !ok {
			return nil, wsman.InvalidParameter(v.parameter)
		}
		answer, err := r.call(ctx, "registry-set", append(where(in), one(in, "sValueName", ""), v.number, data)...)
		return returned(answer.Code), err
	}
}

func (r *Repository) onValue(verb string) method {
	return func(ctx context.Context, _ object, in wsman.Parameters) (object, error) {
		answer, err := r.call(ctx, verb, append(where(in), one(in, "sValueName", ""))...)
		return returned(answer.Code), err
	}
}

func (r *Repository) onKey(verb string) method {
	return func(ctx context.Context, _ object, in wsman.Parameters) (object, error) {
		answer, err := r.call(ctx, verb, where(in)...)
		return returned(answer.Code), err
	}
}

// list returns the names of keys, or of values with their types.
func (r *Repository) list(verb string) method {
	return func(ctx context.Context, _ object, in wsman.Parameters) (object, error) {
		answer, err := r.call(ctx, verb, where(in)...)
		if err != nil {
			return nil, err
		}
		out := object{"sNames": nil, "ReturnValue": answer.Code}
		var names, types []string
		for _, record := range answer.Records {
			names, types = append(names, record[0]), append(types, record[1])
		}
		if len(names) > 0 {
			out["sNames"] = names
		}
		if verb == "registry-values" {
			out["Types"] = nil
			if len(types) > 0 {
				out["Types"] = types
			}
		}
		return out, nil
	}
}

func decodeString(data []byte) any {
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(data[2*i:])
	}
	return strings.TrimRight(string(utf16.Decode(units)), "\x00")
}

func encodeString(values []string) (string, bool) {
	if len(values) == 0 {
		values = []string{""}
	}
	return hexUTF16(values[0] + "\x00"), len(values) == 1
}

func hexUTF16(text string) string {
	var data []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		data = binary.LittleEndian.AppendUint16(data, unit)
	}
	return hex.EncodeToString(data)
}

func decodeMultiString(data []byte) any {
	text := decodeString(data).(string)
	if text == "" {
		return nil
	}
	return strings.Split(text, "\x00")
}

// multiString is a list of strings, each with a zero behind it, and one more behind all.
func multiString(values []string) string {
	list := ""
	for _, value := range values {
		list += value + "\x00"
	}
	return hexUTF16(list + "\x00")
}

func decodeDWORD(data []byte) any {
	if len(data) != 4 {
		return nil
	}
	return binary.LittleEndian.Uint32(data)
}

func encodeDWORD(values []string) (string, bool) {
	if len(values) != 1 {
		return "", false
	}
	n, err := strconv.ParseUint(values[0], 10, 32)
	return hex.EncodeToString(binary.LittleEndian.AppendUint32(nil, uint32(n))), err == nil
}

func decodeBinary(data []byte) any {
	values := make([]uint32, len(data))
	for i, b := range data {
		values[i] = uint32(b)
	}
	return values
}

func encodeBinary(values []string) (string, bool) {
	var data []byte
	for _, value := range values {
		n, err := strconv.ParseUint(value, 10, 8)
		if err != nil {
			return "", false
		}
		data = append(data, byte(n))
	}
	return hex.EncodeToString(data), true
}
