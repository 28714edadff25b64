import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.concurrent.TimeUnit;

/**
 * Posts bodies of zeros with Java's own client, several on one connection, and prints for each the
 * version and the status of the answer: EarlyAnswer.java VERSION URL EXPECT_CONTINUE SIZE...
 */
class EarlyAnswer {
  public static void main(String[] arguments) throws Exception {
    var version = HttpClient.Version.valueOf(arguments[0]);
    var client = HttpClient.newBuilder().version(version).build();
    for (int i = 3; i < arguments.length; i++) {
      long size = Long.parseLong(arguments[i]);
      var body = BodyPublishers.fromPublisher(BodyPublishers.ofInputStream(() -> new Zeros(size)), size);
      var request =
          HttpRequest.newBuilder(URI.create(arguments[1]))
              .expectContinue(Boolean.parseBoolean(arguments[2]))
              .POST(body)
              .build();
      var answer = client.sendAsync(request, BodyHandlers.ofString()).get(60, TimeUnit.SECONDS);
      System.out.println(answer.version() + " " + answer.statusCode());
    }
    System.exit(0);
  }

  static class Zeros extends InputStream {
    long left;

    Zeros(long size) {
      left = size;
    }

    @Override
    public int read() {
      return left-- > 0 ? 0 : -1;
    }

    @Override
    public int read(byte[] bytes, int offset, int length) {
      if (left <= 0) {
        return -1;
      }
      int count = (int) Math.min(length, left);
      left -= count;
      return count;
    }
  }
}
