<?php
// The watch: sensors send readings by TCP, Redis keeps them, a dashboard shows them by WebSocket,
// and somebody gets a mail when one is too high, or doesn't come. For Swoole 6.2; watch.go is its
// port.
//
//   REDIS=127.0.0.1:6379 MAIL=mail.example.com:587 MAIL_CA=ca.pem \
//       MAIL_USER=me MAIL_PASSWORD=secret MAIL_FROM=watch@example.com MAIL_TO=me@example.com \
//       php watch.php
use Swoole\ConnectionPool;
use Swoole\Http\Request;
use Swoole\Http\Response;
use Swoole\Runtime;
use Swoole\Timer;
use Swoole\WebSocket\Frame;
use Swoole\WebSocket\Server;

require __DIR__ . '/mail.php';

const LIMIT = 90;          // a higher reading is an alarm
const SILENCE = 60;        // so are as many seconds without a reading
const MOST_SENSORS = 1000; // whoever comes after them is refused
const READING = '/^([a-z0-9-]{1,32}) (-?\d{1,6}(?:\.\d{1,3})?)$/D';

class Watch
{
    // What is known of each sensor. One worker has them all, and code without a wait isn't
    // interrupted, so no lock is needed.
    private array $sensors = [];

    public function __construct(private Server $server, private ConnectionPool $redis)
    {
    }

    // answer takes a line of a sensor, and returns what that is told.
    public function answer(string $line): string
    {
        if (!preg_match(READING, $line, $m)) {
            return 'error: send a name and a number, such as "boiler 71.5"';
        }
        [, $name, $value] = $m;
        if (!isset($this->sensors[$name]) && count($this->sensors) >= MOST_SENSORS) {
            return 'error: there are too many sensors';
        }
        $high = (float) $value > LIMIT;
        $alarm = $high && !($this->sensors[$name]['alarm'] ?? false);
        $this->sensors[$name] = ['seen' => microtime(true), 'alarm' => $high];
        if ($alarm) {
            $this->alarm("$name is at $value, above " . LIMIT);
        }
        try {
            $this->redis(fn (Redis $r) => $r->hSet('watch:readings', $name, $value));
        } catch (RedisException $e) {
            complain($e);
            return 'error: try again';
        }
        $this->push(['reading' => [$name => $value]]);
        return 'ok';
    }

    // alarm tells the dashboard at once, and sends a mail in a coroutine of its own.
    private function alarm(string $text): void
    {
        go(function () use ($text) {
            $this->push(['alarm' => $text]);
            try {
                send_mail("Alarm: $text");
            } catch (MailException $e) {
                complain($e);
            }
        });
    }

    // tick is called by a timer.
    public function tick(): void
    {
        foreach ($this->sensors as $name => $sensor) {
            if (!$sensor['alarm'] && microtime(true) - $sensor['seen'] > SILENCE) {
                $this->sensors[$name]['alarm'] = true;
                $this->alarm("$name is silent");
            }
        }
        $all = $this->readings();
        if ($all !== null) {
            $this->push($all);
        }
    }

    // welcome shows a new dashboard what is known.
    public function welcome(int $fd): void
    {
        $all = $this->readings();
        if ($all !== null) {
            $this->server->push($fd, json_encode($all));
        }
    }

    private function readings(): ?array
    {
        try {
            $all = $this->redis(fn (Redis $r) => $r->hGetAll('watch:readings'));
            return ['readings' => (object) $all];
        } catch (RedisException $e) {
            complain($e);
            return null;
        }
    }

    // push sends to all dashboards.
    private function push(array $message): void
    {
        foreach ($this->server->connections as $fd) {
            if ($this->server->isEstablished($fd)) {
                $this->server->push($fd, json_encode($message));
            }
        }
    }

    // redis does something with a connection of the pool. null tells the pool that one is lost.
    private function redis(callable $do): mixed
    {
        $r = $this->redis->get();
        try {
            $result = $do($r);
        } catch (RedisException $e) {
            $this->redis->put(null);
            throw $e;
        }
        $this->redis->put($r);
        return $result;
    }
}

function complain(Throwable $e): void
{
    fwrite(STDERR, $e->getMessage() . "\n");
}

Runtime::enableCoroutine();
$redis = new ConnectionPool(function () {
    [$host, $port] = explode(':', getenv('REDIS'));
    $r = new Redis();
    $r->connect($host, (int) $port, 1.0);
    return $r;
}, 3);
$server = new Server('127.0.0.1', 9501, SWOOLE_BASE);
$server->set(['worker_num' => 1]);
$watch = new Watch($server, $redis);

// The sensors' port. Without settings of its own it would speak HTTP, too.
$lines = $server->listen('127.0.0.1', 9502, SWOOLE_SOCK_TCP);
$lines->set([
    'open_http_protocol' => false, 'open_websocket_protocol' => false,
    'open_eof_split' => true, 'package_eof' => "\r\n", 'package_max_length' => 1024,
    'heartbeat_idle_time' => 300,
]);
$lines->on('receive', function (Server $s, int $fd, int $reactor, string $line) use ($watch) {
    if ($line === "quit\r\n") {
        $s->send($fd, "bye\r\n");
        $s->close($fd);
        return;
    }
    $s->send($fd, $watch->answer(substr($line, 0, -2)) . "\r\n");
});

// The dashboard's.
$server->on('request', function (Request $req, Response $res) {
    if ($req->server['request_uri'] !== '/') {
        $res->status(404);
        $res->end();
        return;
    }
    $res->header('Content-Type', 'text/html; charset=utf-8');
    $res->sendfile(__DIR__ . '/page.html');
});
$server->on('open', fn (Server $s, Request $req) => $watch->welcome($req->fd));
$server->on('message', function (Server $s, Frame $frame) { // a dashboard has nothing to say
});
$server->on('workerStart', fn () => Timer::tick(1000, fn () => $watch->tick()));
$server->start();
