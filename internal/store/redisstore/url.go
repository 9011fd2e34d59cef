package redisstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// ParseURL reads where a server is: redis://host:6379/0, rediss:// with TLS,
// unix:/path, redis+sentinel://host1,host2/group/0, redis+cluster://host1,host2
// and those two with rediss. It sets Addresses, Master, Cluster, DB and TLS. A
// URL that holds a password is an error that does not repeat it: it would end
// up in logs.
func ParseURL(s string) (Options, error) {
	var o Options
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		path = "/" + strings.TrimLeft(path, "/")
		if path == "/" {
			return o, errors.New("unix: names no socket: write unix:/run/redis.sock")
		}
		o.Addresses = []string{path}
		return o, nil
	}
	scheme, rest, ok := strings.Cut(s, "://")
	wire, mode, _ := strings.Cut(scheme, "+")
	if !ok || wire != "redis" && wire != "rediss" || mode != "" && mode != "sentinel" && mode != "cluster" || scheme != wire && mode == "" {
		return o, errors.New("write redis://host:6379, rediss://, unix:/path, redis+sentinel://host1,host2/group or redis+cluster://host1,host2")
	}
	if strings.ContainsRune(rest, '@') {
		return o, errors.New("the URL holds a user or password: use the settings for them, which take env:NAME or file:/path")
	}
	if strings.ContainsAny(rest, "?#") {
		return o, errors.New("the URL holds more than hosts and a path: timeouts and TLS have settings of their own")
	}
	hosts, path, _ := strings.Cut(rest, "/")
	port := "6379"
	if mode == "sentinel" {
		port = "26379"
		var group string
		group, path, _ = strings.Cut(path, "/")
		var err error
		if o.Master, err = url.PathUnescape(group); err != nil || o.Master == "" {
			return o, errors.New("the group that the Sentinels watch is missing: write redis+sentinel://host1,host2/group")
		}
	}
	if path != "" {
		db, err := strconv.Atoi(path)
		if err != nil || db < 0 || db > 1<<16 {
			return o, fmt.Errorf("%q is no number of a database", path)
		}
		if o.DB = db; mode == "cluster" && db != 0 {
			return o, errors.New("a Cluster has only database 0")
		}
	}
	o.Cluster = mode == "cluster"
	for h := range strings.SplitSeq(hosts, ",") {
		host, p, err := net.SplitHostPort(h)
		if err != nil {
			host, p = strings.Trim(h, "[]"), port
			if strings.Contains(host, ":") && !strings.HasPrefix(h, "[") {
				return o, fmt.Errorf("%q is no host: an IPv6 address stands in brackets", h)
			}
		}
		if n, err := strconv.Atoi(p); host == "" || err != nil || n < 1 || n > 65535 || strings.ContainsAny(host, " \t\r\n") {
			return o, fmt.Errorf("%q is no host and port", h)
		}
		o.Addresses = append(o.Addresses, net.JoinHostPort(host, p))
	}
	if mode == "" && len(o.Addresses) > 1 {
		return o, errors.New("one server has one address: redis+cluster:// or redis+sentinel:// for several")
	}
	if wire == "rediss" {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return o, nil
}
