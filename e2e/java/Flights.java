import java.io.BufferedWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Produces every line of a file with the Java client, then reads the topic as a group. Usage: BROKER SOURCE TARGET. */
public class Flights {
  static final String TOPIC = "flights_java";

  public static void main(String[] args) throws Exception {
    long sent = produce(args[0], Path.of(args[1]));
    consume(args[0], Path.of(args[2]), sent);
    System.out.println(sent + " produced, consumed and committed");
  }

  static long produce(String broker, Path source) throws Exception {
    AtomicReference<Exception> failed = new AtomicReference<>();
    Map<String, Object> config = Map.of(
        ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, broker,
        ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, true,
        ProducerConfig.COMPRESSION_TYPE_CONFIG, "snappy",
        ProducerConfig.LINGER_MS_CONFIG, 20);
    long sent = 0;
    try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer());
        var lines = Files.newBufferedReader(source)) {
      for (String line; (line = lines.readLine()) != null; sent++) {
        int tab = line.indexOf('\t');
        producer.send(new ProducerRecord<>(TOPIC, line.substring(0, tab), line.substring(tab + 1)),
            (meta, error) -> { if (error != null) failed.compareAndSet(null, error); });
      }
      producer.flush();
    }
    if (failed.get() != null) throw failed.get();
    return sent;
  }

  static void consume(String broker, Path target, long want) throws Exception {
    Map<String, Object> config = Map.of(
        ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, broker,
        ConsumerConfig.GROUP_ID_CONFIG, "e2e-java",
        ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest",
        ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
    long got = 0;
    long deadline = System.nanoTime() + Duration.ofSeconds(120).toNanos();
    try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
        BufferedWriter out = Files.newBufferedWriter(target, StandardCharsets.UTF_8)) {
      consumer.subscribe(List.of(TOPIC));
      while (got < want) {
        if (System.nanoTime() > deadline) throw new IllegalStateException(got + " of " + want + " after 120 s");
        for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofSeconds(1))) {
          out.write(r.key() + "\t" + r.value() + "\n");
          got++;
        }
      }
      consumer.commitSync();
      long committed = consumer.committed(consumer.assignment()).values().stream().mapToLong(m -> m.offset()).sum();
      if (committed != want) throw new IllegalStateException("committed " + committed + " of " + want);
    }
  }
}
