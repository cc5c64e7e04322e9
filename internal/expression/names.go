package expression

import (
	"regexp"
	"strings"
)

// componentName is what may follow "components.", as the API allows it.
var componentName = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?`)

// Components is the variable whose fields are the components of an application.
const Components = "components"

// quoteNames puts the names of components into backquotes, CEL's own escape for
// names that are no identifiers. inserted has the byte offset, in the quoted
// text, of each backquote, so that errors can be located in the original.
func quoteNames(text string) (quoted string, inserted []int) {
	var out strings.Builder
	for i := 0; i < len(text); {
		if next := skipOpaque(text, i); next > i {
			out.WriteString(text[i:next])
			i = next
			continue
		}
		name := nameAfterComponents(text, i)
		if name == "" {
			out.WriteByte(text[i])
			i++
			continue
		}
		out.WriteString(Components + ".")
		inserted = append(inserted, out.Len(), out.Len()+1+len(name))
		out.WriteString("`" + name + "`")
		i += len(Components) + 1 + len(name)
	}
	return out.String(), inserted
}

// nameAfterComponents returns NAME if "components.NAME" stands at i and begins there.
func nameAfterComponents(text string, i int) string {
	if !strings.HasPrefix(text[i:], Components+".") {
		return ""
	}
	if i > 0 && (isIdentifierByte(text[i-1]) || text[i-1] == '.') {
		return ""
	}
	rest := text[i+len(Components)+1:]
	name := componentName.FindString(rest)
	if len(name) < len(rest) && (isIdentifierByte(rest[len(name)]) || rest[len(name)] == '(') {
		// Not the name of a component (components.fooBar, components.map(...)): CEL's own rules apply.
		return ""
	}
	return name
}

// originalOffset undoes quoteNames for one position.
func originalOffset(quoted int, inserted []int) int {
	shift := 0
	for _, at := range inserted {
		if at < quoted {
			shift++
		}
	}
	return quoted - shift
}
