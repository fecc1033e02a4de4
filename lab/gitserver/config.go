package gitserver

import (
	"fmt"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// template is Gitea's configuration. Its queues are in memory: on disk, each is looked at every two seconds, and a
// webhook passes two of them. git writes no signs of life while it takes a push: a server made with Go's http
// package throws away what it has not read of a request once it answers, and the push would wait for ever.
const template = `APP_NAME = tinyrack lab
RUN_MODE = prod
WORK_PATH = %[1]s

[server]
PROTOCOL = https
HTTP_ADDR = %[3]s
HTTP_PORT = 3000
ROOT_URL = https://%[3]s:3000/
CERT_FILE = %[1]s/server.crt
KEY_FILE = %[1]s/server.key
STATIC_ROOT_PATH = %[2]s
DISABLE_SSH = true
OFFLINE_MODE = true

[database]
DB_TYPE = sqlite3
PATH = %[1]s/gitea.db

[repository]
ROOT = %[1]s/repositories
DEFAULT_BRANCH = main

[security]
INSTALL_LOCK = true
SECRET_KEY = %[4]s
INTERNAL_TOKEN = %[5]s

[git.config]
receive.keepAlive = 0

[queue]
TYPE = channel

[webhook]
ALLOWED_HOST_LIST = *.%[6]s
PROXY_URL = http://%[7]s
PROXY_HOSTS = *.%[6]s

[oauth2]
ENABLED = false

[service]
DISABLE_REGISTRATION = true
REQUIRE_SIGNIN_VIEW = true

[log]
MODE = console
LEVEL = warn

[cron]
ENABLED = false
`

// config is Gitea's configuration. Both keys are secret.
func config(home, static, secretKey, internalToken string) string {
	return fmt.Sprintf(template, home, static, layout.HostIP, secretKey, internalToken, layout.Zone,
		layout.ProxyAddr)
}
