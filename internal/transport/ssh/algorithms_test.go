package ssh

import (
	"bufio"
	"context"
	"encoding/binary"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// kexInit reads the first packet of a client as it is on the wire: name-lists
// of RFC 4253, section 7.1.
func kexInit(t *testing.T, conn net.Conn) [][]string {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	_, err := io.WriteString(conn, "SSH-2.0-test\r\n")
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	version, err := reader.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "SSH-2.0-isthmus\r\n", version)
	var length uint32
	require.NoError(t, binary.Read(reader, binary.BigEndian, &length))
	packet := make([]byte, length)
	_, err = io.ReadFull(reader, packet)
	require.NoError(t, err)
	require.Equal(t, byte(20), packet[1], "SSH_MSG_KEXINIT")
	rest := packet[18:] // padding length, type, cookie
	var lists [][]string
	for range 10 {
		size := binary.BigEndian.Uint32(rest)
		lists = append(lists, strings.Split(string(rest[4:4+size]), ","))
		rest = rest[4+size:]
	}
	return lists
}

// TestOfferedAlgorithms looks at the wire, so that neither a default of the
// library nor a list of ours brings an old algorithm back unseen.
func TestOfferedAlgorithms(t *testing.T) {
	old := regexp.MustCompile(`sha1|md5|^ssh-rsa|ssh-dss|cbc|arcfour|3des|blowfish|hmac-ripemd|umac-64|^none$|group1-|group-exchange`)
	for name, authorities := range map[string][]string{"nothing pinned": nil, "authorities": {keyLine(newSigner(t).PublicKey())}} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = Dial(context.Background(), Config{Address: listener.Addr().String(), HostKeyAuthorities: authorities, DialTimeout: 5 * time.Second})
		}()
		conn, err := listener.Accept()
		require.NoError(t, err)
		lists := kexInit(t, conn)
		require.NoError(t, conn.Close())
		require.NoError(t, listener.Close())
		<-done
		count := 0
		for i, list := range lists[:6] { // Key exchanges, host keys, ciphers and MACs in both directions.
			for _, algorithm := range list {
				require.False(t, old.MatchString(algorithm), "%s: list %d offers %q", name, i, algorithm)
				count++
			}
		}
		require.Greater(t, count, 20, "there is something to look at")
		require.Contains(t, lists[0], "curve25519-sha256")
		require.Contains(t, lists[0], "kex-strict-c-v00@openssh.com", "the answer to Terrapin, CVE-2023-48795")
		for _, algorithm := range lists[1] {
			require.Equal(t, authorities != nil, strings.Contains(algorithm, "-cert-v01@"), "%s: %s", name, algorithm)
		}
	}
	require.True(t, old.MatchString("diffie-hellman-group14-sha1") && old.MatchString("ssh-rsa") && old.MatchString("aes128-cbc"))
	require.False(t, old.MatchString("rsa-sha2-256"))
}

// TestWeakHosts are told what they lack.
func TestWeakHosts(t *testing.T) {
	rsaOnly := signerOf(t, rsaKey(t, 3072))
	sha1Only, err := ssh.NewSignerWithAlgorithms(rsaOnly.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(*fakeHost)
		says   string
	}{
		"key exchange": {func(h *fakeHost) { h.config.KeyExchanges = []string{ssh.InsecureKeyExchangeDH14SHA1} },
			"the host has no key exchange that can be relied on (it offers diffie-hellman-group14-sha1"},
		"cipher": {func(h *fakeHost) { h.config.Ciphers = []string{ssh.InsecureCipherAES128CBC} },
			"no client to server cipher that can be relied on (it offers aes128-cbc): allow a modern one, such as aes128-gcm@openssh.com, in its SSH server"},
		"MAC": {func(h *fakeHost) {
			h.config.MACs = []string{ssh.HMACSHA1}
			h.config.Ciphers = []string{ssh.CipherAES128CTR}
		}, "no client to server MAC that can be relied on (it offers hmac-sha1)"},
		"host key": {func(h *fakeHost) { h.key = sha1Only }, "no host key that can be relied on (it offers ssh-rsa)"},
	} {
		t.Run(name, func(t *testing.T) {
			host := newFakeHost(t, c.change)
			config := host.dialConfig()
			config.HostKeys = nil
			if name != "host key" {
				config.HostKeys = []string{host.hostKey()}
			}
			err := dialError(t, config)
			unreachable := &transport.UnreachableError{}
			require.ErrorAs(t, err, &unreachable)
			require.ErrorContains(t, err, c.says)
			require.Less(t, len(err.Error()), 400)
			require.Zero(t, host.authBytes.Load())
		})
	}
}

// TestNobodyIgnoresHostKeys reads the source of the module: no file that is
// part of a program may name the library's switch.
func TestNobodyIgnoresHostKeys(t *testing.T) {
	root, err := filepath.Abs("../../..")
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(root, "go.mod"))
	files := 0
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && path != root || entry.Name() == "bin" || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files++
		for _, name := range identifiers(t, path, nil) {
			require.NotEqual(t, "InsecureIgnoreHostKey", name, path)
		}
		return nil
	}))
	require.Greater(t, files, 100)
	require.Contains(t, identifiers(t, "x.go", "package x\nvar y = ssh.InsecureIgnoreHostKey()"), "InsecureIgnoreHostKey")
}

func identifiers(t *testing.T, path string, source any) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.SkipObjectResolution)
	if os.IsNotExist(err) {
		return nil // Removed while the directory was read.
	}
	require.NoError(t, err)
	var names []string
	ast.Inspect(file, func(node ast.Node) bool {
		if name, ok := node.(*ast.Ident); ok {
			names = append(names, name.Name)
		}
		return true
	})
	return names
}
