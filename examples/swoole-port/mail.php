<?php
// A mail by SMTP over STARTTLS, with Swoole's Coroutine\Client. mail.go is its port.
use Swoole\Coroutine\Client;

class MailException extends Exception
{
}

function send_mail(string $subject): void
{
    [$host, $port] = explode(':', getenv('MAIL'));
    $c = new Client(SWOOLE_SOCK_TCP);
    $c->set(['open_eof_check' => true, 'package_eof' => "\r\n", 'timeout' => 30.0,
        'ssl_verify_peer' => true, 'ssl_cafile' => getenv('MAIL_CA'), 'ssl_host_name' => $host]);
    // Sends a command, reads the reply of one or several lines, and looks at its code.
    $talk = function (string $command, string $want) use ($c): void {
        if ($command !== '') {
            $c->send("$command\r\n");
        }
        do {
            $line = $c->recv();
            if (!is_string($line) || $line === '') {
                throw new MailException("mail: no reply, errCode $c->errCode");
            }
        } while (($line[3] ?? '') === '-');
        if (!str_starts_with($line, $want)) {
            throw new MailException('mail: ' . rtrim($line));
        }
    };
    try {
        if (!$c->connect($host, (int) $port)) {
            throw new MailException("mail: $c->errMsg");
        }
        $talk('', '220');
        $talk('EHLO watch.example.test', '250');
        $talk('STARTTLS', '220');
        if (!$c->enableSSL()) { // the connection would go on, and to whom?
            throw new MailException("mail: $c->errMsg");
        }
        $talk('EHLO watch.example.test', '250');
        if (getenv('MAIL_USER')) {
            $talk('AUTH LOGIN', '334');
            $talk(base64_encode(getenv('MAIL_USER')), '334');
            $talk(base64_encode(getenv('MAIL_PASSWORD')), '235');
        }
        [$from, $to] = [getenv('MAIL_FROM'), getenv('MAIL_TO')];
        $talk("MAIL FROM:<$from>", '250');
        $talk("RCPT TO:<$to>", '250');
        $talk('DATA', '354');
        $date = date(DATE_RFC2822);
        $id = bin2hex(random_bytes(16));
        $talk("From: <$from>\r\nTo: <$to>\r\nSubject: $subject\r\nDate: $date\r\n"
            . "Message-ID: <$id@watch.example.test>\r\n\r\n$subject\r\n.", '250');
        $talk('QUIT', '221');
    } finally {
        $c->close();
    }
}
