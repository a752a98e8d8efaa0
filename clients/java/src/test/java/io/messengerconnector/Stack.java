package io.messengerconnector;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.grpc.TlsChannelCredentials;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/** A sandbox and a service of their own. */
final class Stack implements AutoCloseable {
  /** An address where nothing listens. */
  static final String NOTHING_LISTENS = "127.0.0.1:1";

  private static final Path CERTIFICATES = Path.of("../certificates");
  private static final Pattern LISTENS =
      Pattern.compile("listens.*?(\\d+\\.\\d+\\.\\d+\\.\\d+:\\d+)");
  private static final long PATIENCE_MS = 20_000;

  private record Listening(Process process, String address) {}

  private final HttpClient http = HttpClient.newHttpClient();
  private final Path folder;
  private final List<Process> processes = new ArrayList<>();
  private final Map<String, String> environment;
  private final List<String> serveArguments;
  private final String sandboxAddress;
  private Process service;
  private String address = NOTHING_LISTENS;

  /** What a scenario's {@code service} says, over what every stack has. */
  Stack(JsonObject wanted) throws IOException {
    folder = Files.createTempDirectory("stack");
    environment = strings(wanted.get("environment"));
    for (Map.Entry<String, String> file : strings(wanted.get("files")).entrySet()) {
      Files.writeString(folder.resolve(file.getKey()), file.getValue());
    }
    boolean hasStarted = false;
    try {
      sandboxAddress =
          isNull(wanted, "sandbox")
              ? NOTHING_LISTENS
              : startSandbox(arguments(wanted.get("sandbox")));
      serveArguments = new ArrayList<>(List.of("--graph-url", "http://" + sandboxAddress));
      serveArguments.addAll(List.of("--ledger", "sqlite://" + folder.resolve("ledger.db")));
      serveArguments.addAll(List.of("--rate-per-second", "0", "--media-rate-per-second", "0"));
      serveArguments.addAll(List.of("--admin-listen", "none"));
      serveArguments.addAll(arguments(wanted.get("serve")));
      if (!isNull(wanted, "serve")) {
        startService("127.0.0.1:0");
      }
      hasStarted = true;
    } finally {
      if (!hasStarted) {
        close();
      }
    }
  }

  static Stack start() throws IOException {
    return start("{}");
  }

  static Stack start(String wanted) throws IOException {
    return new Stack(JsonParser.parseString(wanted).getAsJsonObject());
  }

  private static boolean isNull(JsonObject wanted, String member) {
    return wanted.has(member) && wanted.get(member).isJsonNull();
  }

  private static Map<String, String> strings(JsonElement wanted) {
    Map<String, String> strings = new HashMap<>();
    if (wanted != null) {
      wanted
          .getAsJsonObject()
          .entrySet()
          .forEach(entry -> strings.put(entry.getKey(), entry.getValue().getAsString()));
    }
    return strings;
  }

  private List<String> arguments(JsonElement wanted) {
    List<String> arguments = new ArrayList<>();
    if (wanted != null && wanted.isJsonArray()) {
      wanted.getAsJsonArray().forEach(argument -> arguments.add(path(argument.getAsString())));
    }
    return arguments;
  }

  private String path(String text) {
    return text.replace("{folder}", folder.toString())
        .replace("{certificates}", CERTIFICATES.toString());
  }

  private String startSandbox(List<String> more) {
    return run(Stream.concat(Stream.of("sandbox", "--listen", "127.0.0.1:0"), more.stream())
            .toList())
        .address();
  }

  private void startService(String listen) {
    Listening started =
        run(
            Stream.concat(Stream.of("serve", "--listen", listen), serveArguments.stream())
                .toList());
    service = started.process();
    address = started.address();
  }

  private Listening run(List<String> arguments) {
    String binary =
        System.getenv()
            .getOrDefault("MESSENGER_CONNECTOR", "../../target/debug/messenger-connector");
    List<String> command = new ArrayList<>(List.of(new File(binary).getAbsolutePath()));
    command.addAll(arguments);
    ProcessBuilder builder =
        new ProcessBuilder(command).redirectErrorStream(true);
    builder.environment().put("PAGE_ACCESS_TOKEN", "token");
    builder.environment().putAll(environment);
    try {
      Process process = builder.start();
      processes.add(process);
      BufferedReader lines = process.inputReader();
      StringBuilder said = new StringBuilder();
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        Matcher listens = LISTENS.matcher(line);
        if (listens.find()) {
          readOn(lines);
          return new Listening(process, listens.group(1));
        }
        said.append(line).append('\n');
      }
      return fail(arguments + " does not start: " + said);
    } catch (IOException missing) {
      return fail(missing + ": build it with `cargo build`, or name it in MESSENGER_CONNECTOR");
    }
  }

  /** Or the process would wait once the pipe is full. */
  private static void readOn(BufferedReader lines) {
    Thread reader = new Thread(() -> lines.lines().forEach(line -> {}), "log");
    reader.setUncaughtExceptionHandler((thread, ended) -> {});
    reader.setDaemon(true);
    reader.start();
  }

  /** Ends the service by a signal and starts it again, on the same port and ledger. */
  void restart(String signal) throws InterruptedException {
    switch (signal) {
      case "SIGKILL" -> service.destroyForcibly();
      case "SIGTERM" -> service.destroy();
      default -> fail("no such signal: " + signal);
    }
    assertTrue(service.waitFor(PATIENCE_MS, TimeUnit.MILLISECONDS), "it does not end");
    startService(address);
  }

  String address() {
    return address;
  }

  MessengerClient connect() throws IOException {
    return connect(new JsonObject());
  }

  /** A client as a scenario's {@code connect} says. */
  MessengerClient connect(JsonObject wanted) throws IOException {
    MessengerClient.Builder builder = MessengerClient.builder(address);
    if (wanted.has("key")) {
      builder.key(wanted.get("key").getAsString());
    }
    if (wanted.has("tls")) {
      JsonObject files = wanted.getAsJsonObject("tls");
      TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder();
      if (files.has("ca")) {
        tls.trustManager(file(files, "ca"));
      }
      if (files.has("certificate")) {
        tls.keyManager(file(files, "certificate"), file(files, "key"));
      }
      builder.tls(tls.build());
    }
    return builder.connect();
  }

  private File file(JsonObject files, String member) {
    return new File(path(files.get(member).getAsString()));
  }

  /** What the sandbox counts and keeps. */
  JsonObject sandbox(String path) throws IOException, InterruptedException {
    HttpRequest request =
        HttpRequest.newBuilder(URI.create("http://" + sandboxAddress + path)).build();
    return JsonParser.parseString(http.send(request, HttpResponse.BodyHandlers.ofString()).body())
        .getAsJsonObject();
  }

  int delivered() throws IOException, InterruptedException {
    return sandbox("/sandbox/state").get("delivered").getAsInt();
  }

  /** Waits until the sandbox has delivered so many messages. */
  void awaitDelivered(int count) throws IOException, InterruptedException {
    long patience = System.currentTimeMillis() + PATIENCE_MS;
    while (delivered() < count) {
      assertTrue(
          System.currentTimeMillis() < patience, delivered() + " of " + count + " delivered");
      Thread.sleep(5);
    }
  }

  @Override
  public void close() {
    processes.forEach(Process::destroyForcibly);
    processes.forEach(process -> process.onExit().join());
    try (Stream<Path> files = Files.walk(folder)) {
      files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
    } catch (IOException failure) {
      throw new UncheckedIOException(failure);
    }
  }
}
